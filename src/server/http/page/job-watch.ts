// Keeps the jobs of the page as the server has them: looks at its list again and again, and follows one job by its events.
import { type Jobs, withJob, withList, withProgress } from "./job-list.js";
import { type Client, Refused } from "./page-client.js";
import { isEnded, type Job, type Progress, type Status } from "./page-wire.js";

/** What a watch calls. */
export interface Watcher {
  readonly onJobs: (jobs: Jobs) => void;
  /** The server, as far as it is known; whether it has more jobs than are listed. */
  readonly onServer: (status: Status | undefined, hasOlder: boolean) => void;
  readonly onRefused: (refused: Refused) => void;
  readonly onPreview: (id: string, picture: Blob) => void;
  readonly onWarning: (id: string, text: string) => void;
  /** The server does not know this job any more. */
  readonly onGone: (id: string) => void;
}

/** Jobs that are asked for at first, and after `showOlder`. */
const LISTED = { first: 40, all: 200 };
/** Milliseconds between two looks at the server: while a job is open or the server is away, otherwise, and while nobody sees the page. */
const LOOK = { open: 2_000, idle: 10_000, hidden: 30_000 };

/** The watch over a server's jobs. */
export class JobWatch {
  #jobs: Jobs = [];
  #limit = LISTED.first;
  #isAway = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #followed: { readonly id: string; readonly stop: AbortController } | undefined;

  constructor(
    private readonly client: Client,
    private readonly watcher: Watcher,
  ) {
    document.addEventListener("visibilitychange", () => document.hidden || void this.look());
  }

  get jobs(): Jobs {
    return this.#jobs;
  }

  job(id: string | undefined): Job | undefined {
    return this.#jobs.find((job) => job.id === id);
  }

  /** Takes a job as the server has described it. */
  take(job: Job): void {
    this.#change(withJob(this.#jobs, job));
  }

  showOlder(): void {
    this.#limit = LISTED.all;
    void this.look();
  }

  /** Looks at the server now, and again after a while. */
  async look(): Promise<void> {
    clearTimeout(this.#timer);
    const asked = new Set(this.#jobs.map(({ id }) => id));
    try {
      const status = await this.client.status();
      const list = await this.client.jobs(this.#limit);
      const isFull = list.length >= this.#limit;
      // A server that has just started may not have read all of its jobs.
      const isWhole = status.phase === "ready" && !isFull;
      this.watcher.onServer(status, isFull && this.#limit < LISTED.all);
      this.#change(withList(this.#jobs, list, { asked, isWhole }));
      this.#isAway = false;
    } catch (error) {
      this.#isAway = true;
      if (error instanceof Refused) this.watcher.onRefused(error);
    }
    const isOpen = this.#isAway || this.#jobs.some((job) => !isEnded(job));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.look(), document.hidden ? LOOK.hidden : isOpen ? LOOK.open : LOOK.idle);
  }

  /** Follows this job and no other one; one that has ended needs no following. */
  follow(job: Job): void {
    const { id } = job;
    if (this.#followed?.id === id) return;
    this.#followed?.stop.abort();
    if (isEnded(job)) {
      this.#followed = undefined;
      return;
    }
    const stop = new AbortController();
    this.#followed = { id, stop };
    const follower = {
      onJob: (now: Job) => this.take(now),
      onProgress: (event: Progress) => {
        if (event.event === "warning") this.watcher.onWarning(id, event.text);
        else this.#change(withProgress(this.#jobs, id, event));
      },
      onPreview: (picture: Blob) => this.watcher.onPreview(id, picture),
      onGone: () => {
        this.#change(this.#jobs.filter((each) => each.id !== id));
        this.watcher.onGone(id);
      },
    };
    void this.client.follow(id, follower, stop.signal);
  }

  #change(jobs: Jobs): void {
    this.#jobs = jobs;
    this.watcher.onJobs(jobs);
  }
}
