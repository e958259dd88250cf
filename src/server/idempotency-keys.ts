// Idempotency-Key: a request that is sent again gets the job of the first one.
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header
import { QeditError } from "../std/errors.js";
import type { ServerJob } from "./server-job.js";

interface Known {
  /** Of the request: equal ones ask for the same. */
  readonly digest: string;
  readonly job: Promise<ServerJob>;
}

/** The keys of the jobs that are known. */
export class IdempotencyKeys {
  readonly #known = new Map<string, Known>();

  /** The job of a key, or one that is accepted now; a refused request leaves its key free. Throws QEDIT_E_EXISTS for a key of another request. */
  job(key: string, digest: string, accept: () => Promise<ServerJob>): Promise<ServerJob> {
    const known = this.#known.get(key);
    if (known !== undefined && known.digest !== digest)
      throw new QeditError("QEDIT_E_EXISTS", "Cannot use this Idempotency-Key: it belongs to another request", {
        hint: "Send a new key with every new request",
      });
    if (known !== undefined) return known.job;
    const job = accept();
    this.#known.set(key, { digest, job });
    job.catch(() => this.#known.delete(key));
    return job;
  }

  /** Remembers the key of a job of an earlier process. */
  restore(key: string, digest: string, job: ServerJob): void {
    this.#known.set(key, { digest, job: Promise.resolve(job) });
  }

  /** Forgets the keys of jobs that were removed. */
  async forget(removed: readonly ServerJob[]): Promise<void> {
    for (const [key, known] of this.#known) {
      const job = await known.job.catch(() => undefined);
      if (job !== undefined && removed.includes(job)) this.#known.delete(key);
    }
  }
}
