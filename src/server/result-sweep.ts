// Removes jobs that ended long ago, with their pictures.
import type { JobStore } from "./job-store.js";
import type { ServerJob } from "./server-job.js";

/** How much is kept. */
export interface ResultLimits {
  /** Milliseconds that ended jobs and their results are kept. */
  readonly keepResults: number;
  /** Bytes of ended jobs and their results; the oldest go first. */
  readonly resultsLimit: number;
}

/** Removes ended jobs that are too old, then the oldest while all together are too large. Gives those that it removed. */
export async function sweepResults(
  jobs: readonly ServerJob[],
  store: JobStore,
  { keepResults, resultsLimit }: ResultLimits,
): Promise<readonly ServerJob[]> {
  const ended = jobs.filter(({ isDurable, endedAt }) => isDurable && endedAt !== undefined);
  let bytes = 0;
  const removed = new Set<ServerJob>();
  for (const job of ended.sort((a, b) => b.endedAt! - a.endedAt!)) {
    bytes += await store.bytesOf(job.id, resultOf(job));
    if (Date.now() - job.endedAt! > keepResults || bytes > resultsLimit) removed.add(job);
  }
  const kept = new Set(jobs.filter((job) => !removed.has(job)).map(resultOf));
  for (const job of removed) {
    const result = resultOf(job);
    await store.remove(job.id, kept.has(result) ? undefined : result);
  }
  return [...removed];
}

function resultOf(job: ServerJob): string | undefined {
  return job.snapshot().result?.sha256;
}
