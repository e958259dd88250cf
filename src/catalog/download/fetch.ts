// Fetches the bytes of one file over several connections, each of which resumes where it was cut.
import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Dispatcher } from "undici";
import { QeditError } from "../../std/errors.js";
import { type Answer, connectionFailure, requestRange, type Trouble, TryAgain } from "./http.js";
import type { Part, Version } from "./part.js";
import type { DownloadEvent, Progress } from "./progress.js";
import { type ByteRange, missingRanges, sizeOf } from "./ranges.js";
import type { RemoteFile } from "./remote-file.js";

/**
 * How often a request is tried while no byte comes in between, and how long the waits are, in multiples of `firstWait`: they double from
 * `first` up to `longest`. A server that cuts connections does work; a host that was never reached probably has another name.
 */
const PATIENCE: Readonly<
  Record<Trouble, { readonly tries: number; readonly first: number; readonly longest: number }>
> = {
  busy: { tries: 8, first: 1, longest: 60 },
  cut: { tries: 30, first: 0.2, longest: 2 },
  unreachable: { tries: 3, first: 1, longest: 4 },
};

/** How to reach the server of a file. */
export interface Connection {
  readonly remote: RemoteFile;
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  readonly emit: (event: DownloadEvent) => void;
  /** Wait after a first failure, milliseconds. */
  readonly firstWait: number;
}

/** A file that is being fetched. */
export interface Job extends Connection {
  /** Length of the file; Infinity when the server does not say. */
  readonly bytes: number;
  readonly part: Part;
  readonly progress: Progress;
  readonly connections: number;
  /** Bytes of one request. */
  readonly pieceBytes: number;
}

/** The file can only be fetched from its first byte to its last: the server serves no ranges, or nothing proves that two are of one version. */
class NoRanges extends Error {}

/** Asks the server which version of a file it has. `bytes` is Infinity when it does not say. Throws QEDIT_E_NETWORK, or the reason of the signal. */
export async function fetchVersion(connection: Connection): Promise<Version & { readonly bytes: number }> {
  return retrying(connection, { received: () => 0, kept: () => "nothing is kept" }, async () => {
    const { body, total, etag, sha256 } = await request({ start: 0, end: 1 }, connection);
    body.destroy();
    return { bytes: total ?? Infinity, etag, sha256 };
  });
}

/** Fills the part. Throws QEDIT_E_NETWORK, QEDIT_E_IO, or the reason of the signal; what came in stays in the part. */
export async function fetchMissing(job: Job): Promise<void> {
  try {
    await fetchPieces(job);
  } catch (error) {
    job.signal.throwIfAborted();
    if (!(error instanceof NoRanges)) throw error;
    await fetchWhole(job);
  }
}

async function fetchPieces(job: Job): Promise<void> {
  const { remote, bytes, part, pieceBytes, connections } = job;
  if (bytes === Infinity) throw new NoRanges();
  const [first] = missingRanges(part.done, bytes, pieceBytes);
  if (first === undefined) return;
  // The answer for one byte shows whether ranges are served, and of which version of the file.
  await fetchRange({ start: first.start, end: first.start + 1 }, job);
  if (!part.hasVersion && remote.digest === undefined) throw new NoRanges();
  const stop = new AbortController();
  const stoppable = { ...job, signal: AbortSignal.any([job.signal, stop.signal]) };
  const pieces = missingRanges(part.done, bytes, pieceBytes);
  const work = async () => {
    for (let piece = pieces.shift(); piece !== undefined; piece = pieces.shift()) await fetchRange(piece, stoppable);
  };
  const failures: unknown[] = [];
  const workers = Array.from({ length: Math.min(connections, pieces.length) }, () =>
    work().catch((error: unknown) => {
      failures.push(error);
      stop.abort();
    }),
  );
  await Promise.all(workers);
  // The other workers fail with the abort.
  if (failures.length > 0) throw failures[0];
}

async function fetchRange(range: ByteRange, job: Job): Promise<void> {
  let { start } = range;
  // Servers may send less than was requested.
  while (start < range.end)
    await retrying(job, headway(job), async () => {
      const answer = await ask({ start, end: range.end }, job);
      if (!answer.isRange && (start > 0 || range.end < job.bytes)) {
        answer.body.destroy();
        throw new NoRanges();
      }
      if (!job.part.accept(answer)) {
        answer.body.destroy();
        job.progress.restart(0);
        throw changed(job.remote);
      }
      await receive(
        answer,
        { start, end: Math.min(range.end, answer.end) },
        { ...job, onBytes: (bytes) => (start += bytes) },
      );
    });
}

// From the first byte to the last over one connection, for servers without ranges.
async function fetchWhole(job: Job): Promise<void> {
  const whole = { start: 0, end: job.bytes };
  // A server that has to start over gets as many tries as one that sends nothing.
  await retrying(job, { ...headway(job), received: () => 0 }, async () => {
    await job.part.restart();
    job.progress.restart(0);
    const answer = await ask(whole, job);
    job.part.accept(answer);
    const end = job.bytes === Infinity ? answer.end : job.bytes;
    await receive(answer, { start: 0, end }, { ...job, onBytes: () => {} });
  });
}

async function ask(range: ByteRange, job: Job): Promise<Answer> {
  const { remote, bytes } = job;
  const answer = await request(range, job);
  if (answer.total === undefined || bytes === Infinity || answer.total === bytes) return answer;
  answer.body.destroy();
  if (remote.bytes === undefined) throw changed(remote);
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot download ${remote.name}: ${remote.url.host} says that it has ${answer.total} bytes, ${bytes} were published`,
    { hint: "The mirror may be damaged or out of date: unset HF_ENDPOINT" },
  );
}

function changed({ name, url }: RemoteFile): QeditError {
  return new QeditError("QEDIT_E_NETWORK", `Cannot go on with ${name}: the file at ${url.host} changed meanwhile`, {
    hint: "Run the same command again: it starts over",
  });
}

function request(range: ByteRange, { remote, dispatcher, signal }: Connection): Promise<Answer> {
  const { url, token, refused } = remote;
  return requestRange({ url, token, range, dispatcher, signal, refused });
}

async function receive(
  { body }: Answer,
  { start, end }: ByteRange,
  { remote, part, progress, signal, onBytes }: Job & { onBytes: (bytes: number) => void },
): Promise<void> {
  let at = start;
  try {
    for await (const bytes of body) {
      // Bytes beyond the request are dropped.
      const wanted = bytes.subarray(0, end - at);
      await part.write(wanted, at);
      at += wanted.length;
      onBytes(wanted.length);
      progress.add(wanted.length);
      if (at === end) break;
    }
  } catch (error) {
    throw connectionFailure(remote.url, error, signal);
  } finally {
    body.destroy();
  }
  if (at < end && end !== Infinity)
    throw new TryAgain(`${remote.url.host} ended the answer after ${at - start} of ${end - start} bytes`, {
      trouble: "cut",
    });
}

/** What came of the tries so far. */
interface Headway {
  /** Bytes that came and are kept. */
  readonly received: () => number;
  /** For the message when no further try is made. */
  readonly kept: () => string;
}

function headway({ part, bytes, progress }: Job): Headway {
  return {
    received: () => progress.received,
    kept: () => `${sizeOf(part.done)} of ${bytes === Infinity ? "unknown" : bytes} bytes are kept`,
  };
}

async function retrying<T>(
  { remote, signal, emit, firstWait }: Connection,
  { received: receivedNow, kept }: Headway,
  action: () => Promise<T>,
): Promise<T> {
  let [failures, received] = [0, receivedNow()];
  for (;;) {
    try {
      return await action();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TryAgain)) throw error;
      failures = receivedNow() > received ? 1 : failures + 1;
      received = receivedNow();
      // In the middle of a download the network is away, not the host wrong.
      const { tries, first, longest } =
        PATIENCE[error.trouble === "unreachable" && received > 0 ? "busy" : error.trouble];
      if (failures >= tries)
        throw new QeditError(
          "QEDIT_E_NETWORK",
          `Cannot download ${remote.name}: ${error.message}, ${tries} times in a row; ${kept()}`,
          { cause: error, hint: remote.unreachableHint },
        );
      const wait =
        error.seconds === undefined
          ? firstWait * Math.min(longest, first * 2 ** (failures - 1)) * (randomInt(80, 121) / 100)
          : error.seconds * 1000;
      emit({ kind: "retrying", file: remote.name, reason: error.message, seconds: wait / 1000 });
      await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}
