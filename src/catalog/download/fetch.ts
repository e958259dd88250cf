// The bytes of one file over several connections at once, each going on where it was cut off, until all are there.
import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Dispatcher } from "undici";
import { QeditError } from "../../std/errors.js";
import type { HubFile } from "../published/models-schema.js";
import { type Answer, connectionFailure, requestRange, type Trouble, TryAgain } from "./http.js";
import { fileUrl } from "./hub.js";
import type { Part } from "./part.js";
import type { DownloadEvent, Progress } from "./progress.js";
import { type ByteRange, missingRanges, sizeOf } from "./ranges.js";

/**
 * As many failures of one connection, with not one byte received in between, end a download; `share` of the usual wait comes after the
 * first, and no wait is longer than `longestWait` milliseconds. A server that cuts does work, and lets through sooner or later; a host that
 * was never reached has probably another name.
 */
const PATIENCE: Readonly<
  Record<Trouble, { readonly tries: number; readonly share: number; readonly longestWait: number }>
> = {
  busy: { tries: 8, share: 1, longestWait: 30_000 },
  cut: { tries: 30, share: 0.2, longestWait: 1_000 },
  unreachable: { tries: 3, share: 1, longestWait: 2_000 },
};

/** A file that is being fetched. */
export interface Job {
  readonly file: HubFile;
  readonly part: Part;
  readonly token: string | undefined;
  readonly dispatcher: Dispatcher;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly emit: (event: DownloadEvent) => void;
  readonly connections: number;
  readonly pieceBytes: number;
  /** Wait after a first failure, milliseconds. */
  readonly firstWait: number;
}

/** A server that answers a range with the whole file. */
class RangeIgnored extends Error {}

/** Fills the part. Throws QEDIT_E_NETWORK, QEDIT_E_IO, or the reason of the signal; what came in stays in the part. */
export async function fetchMissing(job: Job): Promise<void> {
  try {
    await fetchPieces(job);
  } catch (error) {
    job.signal.throwIfAborted();
    if (!(error instanceof RangeIgnored)) throw error;
    await fetchWhole(job);
  }
}

async function fetchPieces(job: Job): Promise<void> {
  const { file, part, pieceBytes, connections } = job;
  const [first] = missingRanges(part.done, file.bytes, pieceBytes);
  if (first === undefined) return;
  // One byte tells whether ranges are served, and of which version of the file.
  await fetchRange({ start: first.start, end: first.start + 1 }, job);
  const stop = new AbortController();
  const stoppable = { ...job, signal: AbortSignal.any([job.signal, stop.signal]) };
  const pieces = missingRanges(part.done, file.bytes, pieceBytes);
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
  // The others only heard that they were stopped.
  if (failures.length > 0) throw failures[0];
}

async function fetchRange(range: ByteRange, job: Job): Promise<void> {
  let { start } = range;
  // Servers may give less than was asked for, and are asked again.
  while (start < range.end)
    await retrying(job, { keepsHeadway: true }, async () => {
      const answer = await ask({ start, end: range.end }, job);
      if (!answer.isRange && (start > 0 || range.end < job.file.bytes)) {
        answer.body.destroy();
        throw new RangeIgnored();
      }
      if (!job.part.accept(answer)) {
        answer.body.destroy();
        job.progress.begin(0);
        throw new QeditError(
          "QEDIT_E_NETWORK",
          `Cannot go on with ${job.file.file}: the file at ${fileUrl(job.file).host} changed meanwhile`,
          { hint: "Run the same command again: it begins anew" },
        );
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
  const whole = { start: 0, end: job.file.bytes };
  await retrying(job, { keepsHeadway: false }, async () => {
    await job.part.restart();
    job.progress.begin(0);
    const answer = await ask(whole, job);
    job.part.accept(answer);
    await receive(answer, whole, { ...job, onBytes: () => {} });
  });
}

async function ask(range: ByteRange, { file, token, dispatcher, signal }: Job): Promise<Answer> {
  const url = fileUrl(file);
  const answer = await requestRange({ url, token, range, dispatcher, signal });
  if (answer.total === undefined || answer.total === file.bytes) return answer;
  answer.body.destroy();
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot download ${file.file}: ${url.host} says that it has ${answer.total} bytes, ${file.bytes} were published`,
    {
      hint: "The mirror may be damaged or out of date: unset HF_ENDPOINT",
    },
  );
}

async function receive(
  { body }: Answer,
  { start, end }: ByteRange,
  { file, part, progress, signal, onBytes }: Job & { onBytes: (bytes: number) => void },
): Promise<void> {
  const { host } = fileUrl(file);
  let at = start;
  try {
    for await (const bytes of body) {
      // A server that sends more than was asked for is not followed.
      const wanted = bytes.subarray(0, end - at);
      await part.write(wanted, at);
      at += wanted.length;
      onBytes(wanted.length);
      progress.add(wanted.length);
      if (at === end) break;
    }
  } catch (error) {
    throw connectionFailure(fileUrl(file), error, signal);
  } finally {
    body.destroy();
  }
  if (at < end)
    throw new TryAgain(`${host} ended the answer after ${at - start} of ${end - start} bytes`, { trouble: "cut" });
}

// Headway counts only where it is kept: a server that has to start over gets as many tries as one that sends nothing.
async function retrying(
  job: Job,
  { keepsHeadway }: { keepsHeadway: boolean },
  action: () => Promise<void>,
): Promise<void> {
  const { file, progress, signal, emit, firstWait } = job;
  let [failures, received] = [0, progress.received];
  for (;;) {
    try {
      return await action();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TryAgain)) throw error;
      failures = keepsHeadway && progress.received > received ? 1 : failures + 1;
      received = progress.received;
      // In the middle of a download the network is away, not the host wrong.
      const { tries, share, longestWait } =
        PATIENCE[error.trouble === "unreachable" && received > 0 ? "busy" : error.trouble];
      if (failures >= tries) throw givenUp(job, error, tries);
      const wait =
        error.seconds === undefined
          ? Math.min(longestWait, share * firstWait * 2 ** (failures - 1)) * (randomInt(80, 121) / 100)
          : error.seconds * 1000;
      emit({ kind: "retrying", file: file.file, reason: error.message, seconds: wait / 1000 });
      await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

function givenUp({ file, part }: Job, cause: TryAgain, tries: number): QeditError {
  return new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot download ${file.file}: ${cause.message}, ${tries} times in a row; ${sizeOf(part.done)} of ${file.bytes} bytes are kept`,
    {
      cause,
      hint: "Check the network, HTTPS_PROXY and HF_ENDPOINT, then run the same command: it goes on where it stopped",
    },
  );
}
