// The state folder: jobs that were accepted, with their pictures, and results by content hash. A job is in it whole or not at all: its folder is
// renamed into place when it is complete, and its end is written after its result.
//   jobs/ID/job.json, image-1, image-2, …, mask, end.json        results/SHA256
import { lstat, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { MIME_TYPES } from "../edit/finish/picture-encoding.js";
import type { EditRequest } from "../edit/request/edit-request.js";
import { ERROR_CODES, param, QeditError } from "../std/errors.js";
import { fileHash } from "../std/file-hash.js";
import {
  ioFailure,
  makeFolders,
  readBounded,
  readTextFile,
  readTextIfThere,
  writeFileAtomically,
} from "../std/files.js";
import { type Holder, withLock } from "../std/lock.js";
import { forgetTemporaryFile, removeLeftovers, temporaryPath } from "../std/temporary-files.js";
import type { JobInput } from "./job-types.js";
import type { JobEnd } from "./server-job.js";

/** Raised when a file of the folder changes its form. */
const VERSION = 1;
/** Bytes of a JSON file of the folder; prompts are the longest part. */
const LARGEST_JSON = 16 * 1024 ** 2;

const input = v.strictObject({ name: v.string(), sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)) });
const jobFile = v.strictObject({
  version: v.literal(VERSION),
  id: v.pipe(v.string(), v.uuid()),
  created: v.pipe(v.string(), v.isoTimestamp()),
  /** Order of acceptance. */
  number: v.pipe(v.number(), v.safeInteger()),
  parameters: v.record(v.string(), v.unknown()),
  inputs: v.pipe(v.array(input), v.readonly()),
  mask: v.optional(input),
  /** The seed, drawn if it was left to chance: made again, the picture is the same. */
  seed: v.string(),
  hasPreviews: v.boolean(),
  /** Whether its parameters may be paths: it came from this user. */
  hasPaths: v.boolean(),
  /** Idempotency-Key of the request. */
  key: v.optional(v.string()),
  traceparent: v.optional(v.string()),
});
const result = v.looseObject({
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  type: v.picklist(Object.values(MIME_TYPES)),
  ...{ bytes: v.number(), width: v.number(), height: v.number(), seed: v.string() },
});
const endFile = v.pipe(
  v.looseObject({
    state: v.picklist(["completed", "failed", "cancelled"]),
    started: v.optional(v.string()),
    ended: v.pipe(v.string(), v.isoTimestamp()),
    result: v.optional(result),
    error: v.optional(
      v.looseObject({
        code: v.fallback(v.picklist(ERROR_CODES), "QEDIT_E_INTERNAL"),
        message: v.string(),
        hint: v.optional(v.string()),
      }),
    ),
  }),
  v.check(
    ({ state, ...end }) => end[state === "completed" ? "result" : "error"] !== undefined,
    "its end is incomplete",
  ),
);

/** A job as it is stored. */
export type StoredJob = Readonly<v.InferOutput<typeof jobFile>>;

/** A stored job and its end; undefined: it has not ended. */
export interface FoundJob {
  readonly job: StoredJob;
  readonly end: JobEnd | undefined;
}

/** The folder. */
export interface JobStore {
  readonly folder: string;
  /** Jobs of earlier processes, in the order of their acceptance. */
  readonly found: readonly FoundJob[];
  /** Stores a job with its pictures. Throws QEDIT_E_IO. */
  readonly accept: (job: Omit<StoredJob, "version" | "number">, request: EditRequest) => Promise<void>;
  /** The pictures of a job. Throws QEDIT_E_IO. */
  readonly request: (job: Pick<StoredJob, "id" | "inputs" | "mask" | "parameters">) => Promise<EditRequest>;
  /** Stores the end of a job, and its picture before. */
  readonly end: (id: string, end: JobEnd, bytes?: Uint8Array) => Promise<void>;
  readonly result: (sha256: string) => Promise<Uint8Array>;
  /** Bytes that a job takes, with its pictures. */
  readonly bytesOf: (id: string, result: string | undefined) => Promise<number>;
  /** Removes a job that has ended, and its result unless another job has the same. */
  readonly remove: (id: string, result: string | undefined) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Opens a state folder, which one server at a time may use. Throws QEDIT_E_BUSY, QEDIT_E_IO. */
export async function openJobStore(folder: string, onBroken: (text: string) => void): Promise<JobStore> {
  const [jobs, results] = [join(folder, "jobs"), join(folder, "results")];
  for (const each of [jobs, results])
    await makeFolders(each, { isPrivate: true }).catch((error: unknown) => {
      throw ioFailure("write", each, error);
    });
  const release = await lock(folder);
  await removeBroken(jobs);
  await removeLeftovers(results);
  const found = await readJobs(jobs, onBroken);
  let number = Math.max(0, ...found.map(({ job }) => job.number));
  const resultPath = (sha256: string) => join(results, sha256);
  return {
    folder,
    found,
    async accept(job, request) {
      number += 1;
      const text = JSON.stringify({ version: VERSION, number, ...job } satisfies StoredJob);
      const temporary = temporaryPath(jobs);
      try {
        await mkdir(temporary, { mode: 0o700 });
        await writeFile(join(temporary, "job.json"), text, { flush: true, mode: 0o600 });
        for (const [name, bytes] of filesOf(request))
          await writeFile(join(temporary, name), bytes, { flush: true, mode: 0o600 });
        await rename(temporary, join(jobs, job.id));
      } catch (error) {
        await rm(temporary, { recursive: true, force: true });
        throw ioFailure("write", join(jobs, job.id), error);
      } finally {
        forgetTemporaryFile(temporary);
      }
    },
    async request({ id, inputs, mask, parameters }) {
      const read = async (name: string, sent: JobInput) => {
        const path = join(jobs, id, name);
        return { name: sent.name, bytes: await readHashed(path, sent.sha256) };
      };
      const pictures = await Promise.all(inputs.map((sent, index) => read(`image-${index + 1}`, sent)));
      return { pictures, mask: mask && (await read("mask", mask)), parameters };
    },
    async end(id, end, bytes) {
      if (bytes !== undefined && end.result)
        await writeFileAtomically(resultPath(end.result.sha256), bytes, { isPrivate: true });
      const text = Buffer.from(JSON.stringify(end));
      await writeFileAtomically(join(jobs, id, "end.json"), text, { isPrivate: true });
    },
    result: (sha256) => readHashed(resultPath(sha256), sha256),
    async bytesOf(id, result) {
      const folder = join(jobs, id);
      const files = (await readdir(folder).catch(() => [])).map((name) => join(folder, name));
      if (result !== undefined) files.push(resultPath(result));
      const sizes = await Promise.all(
        files.map((file) =>
          stat(file).then(
            ({ size }) => size,
            () => 0,
          ),
        ),
      );
      return sizes.reduce((sum, size) => sum + size, 0);
    },
    async remove(id, result) {
      // Renamed first: a folder that is half removed must not be taken for a job.
      const aside = temporaryPath(jobs);
      await rename(join(jobs, id), aside).catch(() => {});
      await rm(aside, { recursive: true, force: true });
      forgetTemporaryFile(aside);
      if (result !== undefined) await rm(resultPath(result), { force: true });
    },
    close: release,
  };
}

// The bytes of a file that has this SHA-256: what a disk damaged, or somebody changed, must not become a picture.
async function readHashed(path: string, sha256: string): Promise<Uint8Array> {
  const bytes = await readBounded(path, Number.POSITIVE_INFINITY).catch((error: unknown) => {
    throw ioFailure("read", path, error);
  });
  if ((await fileHash(bytes)) === sha256) return bytes;
  throw new QeditError("QEDIT_E_IO", `Cannot use ${path}: it is not the file that was stored`, {
    hint: "Send the edit again",
  });
}

function filesOf({ pictures, mask }: EditRequest): readonly (readonly [string, Uint8Array])[] {
  const files = pictures.map(({ bytes }, index) => [`image-${index + 1}`, bytes] as const);
  return mask === undefined ? files : [...files, ["mask", mask.bytes]];
}

// The lock is held until the returned function is called.
function lock(folder: string): Promise<() => Promise<void>> {
  const signal = new AbortController().signal;
  const onWait = ({ pid }: Holder) => {
    throw new QeditError("QEDIT_E_BUSY", `Cannot use ${folder}: the server of process ${pid} uses it`, {
      hint: `Stop it, or name another folder: ${param("state", "FOLDER")}`,
    });
  };
  return new Promise((resolve, reject) => {
    const untilReleased = () =>
      new Promise<void>((release) =>
        resolve(() => {
          release();
          return held;
        }),
      );
    const held = withLock(join(folder, "server"), { signal, onWait }, untilReleased);
    held.catch(reject);
  });
}

// Folders that were being written or removed when a process was killed.
async function removeBroken(jobs: string): Promise<void> {
  for (const name of await readdir(jobs)) {
    if (/^\.qedit-.*\.tmp$/.test(name)) await rm(join(jobs, name), { recursive: true, force: true });
  }
}

async function readJobs(jobs: string, onBroken: (text: string) => void): Promise<FoundJob[]> {
  const found: FoundJob[] = [];
  for (const id of await readdir(jobs)) {
    const folder = join(jobs, id);
    try {
      // A link would lead to files of elsewhere.
      if (!(await lstat(folder)).isDirectory()) throw new Error("it is no folder");
      const job = v.parse(jobFile, JSON.parse(await readTextFile(join(folder, "job.json"), LARGEST_JSON)));
      if (job.id !== id) throw new Error(`it says that it is job ${job.id}`);
      found.push({ job, end: await readEnd(join(folder, "end.json")) });
    } catch (error) {
      onBroken(`${folder} is left as it is: ${(error as Error).message}`);
    }
  }
  return found.sort((a, b) => a.job.number - b.job.number);
}

async function readEnd(path: string): Promise<JobEnd | undefined> {
  const text = await readTextIfThere(path, LARGEST_JSON);
  return text === undefined ? undefined : (v.parse(endFile, JSON.parse(text)) as unknown as JobEnd);
}
