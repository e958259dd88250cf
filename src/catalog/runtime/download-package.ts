// One file over HTTP: goes on where it stopped, tries again when the line breaks, and is only taken when its hash is the published one.
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { EnvHttpProxyAgent, fetch, type Response } from "undici";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { fileHash } from "../../std/file-hash.js";
import { ioFailure } from "../../std/files.js";

/** A published hash, in hexadecimal. */
export interface Digest {
  readonly algorithm: "sha256" | "sha512";
  readonly hex: string;
}

/** What is to be fetched. */
export interface Download {
  readonly url: string;
  /** Name of the file, for people and on disk. */
  readonly name: string;
  /** What its bytes must hash to; undefined when nobody published it. */
  readonly digest: Digest | undefined;
}

/** Where to, and who watches. */
export interface DownloadOptions {
  readonly folder: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A file that is here whole. */
export interface Downloaded {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Times that a broken transfer goes on before the failure is told, and the first pause between them, which doubles. */
const ATTEMPTS = 6;
const FIRST_PAUSE = 250;

/** A server that is silent for so long has gone, in milliseconds. */
const SILENCE = 30_000;

/** Milliseconds between two events. */
const BEAT = 100;

/** Fetches a file; what came of it stays as `name.part` when it fails, for the next call. Throws QEDIT_E_NETWORK and QEDIT_E_IO. */
export async function download(wanted: Download, { folder, emit, signal }: DownloadOptions): Promise<Downloaded> {
  const part = join(folder, `${wanted.name}.part`);
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw ioFailure("write", folder, error);
  });
  for (let attempt = 1; ; attempt++) {
    const before = await sizeOf(part);
    try {
      await transfer(wanted, { part, emit, signal });
      break;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof QeditError) throw error;
      // A transfer that went on for a while was no failed attempt.
      if ((await sizeOf(part)) > before) attempt = 1;
      if (attempt >= ATTEMPTS) throw networkFailure(wanted, error);
      emit({ kind: "detail", text: `${wanted.name}: ${reasonOf(error)}; trying again` });
      await pause(FIRST_PAUSE * 2 ** (attempt - 1), undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
  const sha256 = await fileHash(part, { signal });
  const algorithm = wanted.digest?.algorithm ?? "sha256";
  const found = algorithm === "sha256" ? sha256 : await fileHash(part, { algorithm, signal });
  if (wanted.digest && found !== wanted.digest.hex.toLowerCase()) {
    await rename(part, join(folder, `${wanted.name}.bad`));
    await rm(tagFile(part), { force: true });
    throw new QeditError(
      "QEDIT_E_NETWORK",
      `Cannot take ${wanted.name}: its ${wanted.digest.algorithm} is ${found}, wanted ${wanted.digest.hex.toLowerCase()}`,
      {
        hint: `What came is kept as ${wanted.name}.bad in ${folder}; try again, or another --from`,
      },
    );
  }
  const path = join(folder, wanted.name);
  await rename(part, path);
  await rm(tagFile(part), { force: true });
  return { path, bytes: await sizeOf(path), sha256 };
}

/** Reads a JSON document. Throws QEDIT_E_NETWORK. */
export async function fetchJson(url: string, signal: AbortSignal, accept = "application/json"): Promise<unknown> {
  try {
    const response = await fetch(url, {
      dispatcher: agent(),
      headers: { accept },
      signal: AbortSignal.any([signal, AbortSignal.timeout(SILENCE)]),
    });
    if (!response.ok) throw refusal(url, response);
    return await response.json();
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof QeditError ? error : networkFailure({ url, name: url }, error);
  }
}

interface Target {
  readonly part: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

// One request: the rest of the file, if the server still has the same one, else all of it.
async function transfer({ url, name, digest }: Download, { part, emit, signal }: Target): Promise<void> {
  const tag = await readFile(tagFile(part), "utf8").catch(() => undefined);
  // Without a name for the version, the published hash tells in the end whether it still was the same file.
  const have = tag === undefined && digest === undefined ? 0 : await sizeOf(part);
  const headers = have > 0 ? { range: `bytes=${have}-`, ...(tag !== undefined && { "if-range": tag }) } : undefined;
  const response = await fetch(url, { dispatcher: agent(), signal, ...(headers && { headers }) });
  const total = totalOf(response);
  // The part is the whole file already.
  if (response.status === 416 && total === have) return void (await response.body?.cancel());
  if (response.status === 416) {
    await rm(part, { force: true });
    throw new Error("the server has another file now");
  }
  if (!response.ok) {
    await response.body?.cancel();
    if (response.status >= 500 || response.status === 429) throw new Error(`the server answers ${response.status}`);
    throw refusal(url, response);
  }
  const start = response.status === 206 ? startOf(response) : 0;
  if (start !== 0 && start !== have) {
    await response.body?.cancel();
    await rm(part, { force: true });
    throw new Error("the server sent another range than was asked for");
  }
  await writeTag(part, response);
  await writeBody(response, { part, emit, name, start, total });
}

async function writeBody(
  response: Response,
  {
    part,
    emit,
    name,
    start,
    total,
  }: { part: string; emit: Emit; name: string; start: number; total: number | undefined },
): Promise<void> {
  const file = await open(part, start > 0 ? "r+" : "w");
  const began = performance.now();
  let [bytes, told] = [start, 0];
  try {
    for await (const chunk of response.body!) {
      await file.write(chunk, 0, chunk.length, bytes).catch((error: unknown) => {
        throw ioFailure("write", part, error);
      });
      bytes += chunk.length;
      const now = performance.now();
      if (now - told < BEAT) continue;
      told = now;
      emit({ kind: "transfer", name, bytes, total, bytesPerSecond: (bytes - start) / ((now - began) / 1000) });
    }
  } finally {
    await file.close();
  }
  if (total !== undefined && bytes !== total) throw new Error(`it ended at byte ${bytes} of ${total}`);
}

/** Proxies as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. */
function agent(): EnvHttpProxyAgent {
  return (shared ??= new EnvHttpProxyAgent({
    bodyTimeout: SILENCE,
    headersTimeout: SILENCE,
    connect: { timeout: SILENCE },
  }));
}

let shared: EnvHttpProxyAgent | undefined;

// What the server calls this version of the file, if it does.
async function writeTag(part: string, { headers }: Response): Promise<void> {
  const etag = headers.get("etag");
  const tag = etag !== null && !etag.startsWith("W/") ? etag : headers.get("last-modified");
  if (tag === null) await rm(tagFile(part), { force: true });
  else await writeFile(tagFile(part), tag);
}

function tagFile(part: string): string {
  return `${part}.tag`;
}

function startOf({ headers }: Response): number {
  return Number(/^bytes (\d+)-/.exec(headers.get("content-range") ?? "")?.[1] ?? NaN);
}

function totalOf({ status, headers }: Response): number | undefined {
  const range = /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  const length =
    status === 200 && headers.get("content-encoding") === null
      ? (headers.get("content-length") ?? undefined)
      : undefined;
  const text = range ?? length;
  return text === undefined ? undefined : Number(text);
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

function refusal(url: string, { status }: Response): QeditError {
  return new QeditError("QEDIT_E_NETWORK", `Cannot fetch ${url}: the server answers ${status}`, {
    hint: "Check the address; `qedit setup --from FILE` takes a file",
  });
}

function networkFailure({ url, name }: Pick<Download, "url" | "name">, cause: unknown): QeditError {
  const what = name === url ? url : `${name} from ${new URL(url).host}`;
  return new QeditError("QEDIT_E_NETWORK", `Cannot fetch ${what}: ${reasonOf(cause)}`, {
    cause,
    hint: "Run the command again, it goes on where it stopped; HTTPS_PROXY is respected; `--from FILE` works without a network",
  });
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as NodeJS.ErrnoException;
  const words: Readonly<Record<string, string>> = {
    ENOTFOUND: "the name is not known",
    EAI_AGAIN: "the name is not known",
    ECONNREFUSED: "the connection was refused",
    ECONNRESET: "the connection was cut",
    UND_ERR_SOCKET: "the connection was cut",
  };
  return words[code ?? ""] ?? message.split("\n")[0] ?? "unknown";
}
