// The jobs that the page knows, and what it says of them. Answers of the server come late and out of order: a job never goes back.
import { isEnded, type Job, type Progress, type State } from "./page-wire.js";

/** Jobs, the newest first. */
export type Jobs = readonly Job[];

const RANK: Readonly<Record<State, number>> = { queued: 0, running: 1, completed: 2, failed: 2, cancelled: 2 };

/** The jobs with one as the server has described it. */
export function withJob(jobs: Jobs, job: Job): Jobs {
  const known = jobs.find(({ id }) => id === job.id);
  if (known !== undefined && isOlder(job, known)) return jobs;
  return byAge([job, ...jobs.filter(({ id }) => id !== job.id)]);
}

/**
 * The jobs as a list of the server has them. Jobs in `asked`, those that were known when it was asked for, are removed if a whole list lacks them.
 */
export function withList(
  jobs: Jobs,
  list: Jobs,
  { asked, isWhole }: { asked: ReadonlySet<string>; isWhole: boolean },
): Jobs {
  const listed = new Set(list.map(({ id }) => id));
  const kept = isWhole ? jobs.filter(({ id }) => listed.has(id) || !asked.has(id)) : jobs;
  return list.reduce(withJob, kept);
}

/** The jobs after an event of one of them. */
export function withProgress(jobs: Jobs, id: string, event: Progress): Jobs {
  return jobs.map((job) => {
    if (job.id !== id || isEnded(job)) return job;
    const { step, steps, eta, position, ...rest } = job;
    if (event.event === "start") return { ...rest, state: "running", stage: event.stage };
    if (event.event !== "step") return job;
    const left = event.seconds * (event.total - event.step);
    return { ...rest, state: "running", step: event.step, steps: event.total, eta: left };
  });
}

/** Jobs that have not ended: the running one, then those that wait, the next first. */
export function openJobs(jobs: Jobs): Jobs {
  const place = ({ state, position = Number.MAX_SAFE_INTEGER }: Job) => (state === "running" ? 0 : position);
  return jobs.filter((job) => !isEnded(job)).sort((a, b) => place(a) - place(b));
}

/** Jobs that have ended. */
export function endedJobs(jobs: Jobs): Jobs {
  return jobs.filter(isEnded);
}

const STAGES: Readonly<Record<string, string>> = {
  "encode-image": "Reading the pictures",
  "encode-prompt": "Reading the prompt",
  sample: "Sampling",
  decode: "Making the picture",
};

/** What is said of a job while it waits or runs: words, the share of its steps (undefined where it is unknown), and the time that is left. */
export function progressOf(job: Job): {
  readonly text: string;
  readonly share: number | undefined;
  readonly left: string;
} {
  const { state, position, stage, step, steps, eta } = job;
  if (state === "queued") {
    const text = position === undefined || position <= 1 ? "Next in the queue" : `Place ${position} in the queue`;
    return { text, share: undefined, left: "" };
  }
  const name = stage === undefined ? "Starting" : (STAGES[stage] ?? stage);
  if (stage !== "sample" || step === undefined || !steps) return { text: name, share: undefined, left: "" };
  const left = step > 0 && step < steps && eta !== undefined ? durationText(eta) : "";
  return { text: `${name}: step ${Math.min(step + 1, steps)} of ${steps}`, share: step / steps, left };
}

/** Seconds as people say them: `about 40 s left`. */
function durationText(seconds: number): string {
  if (seconds < 1.5) return "about 1 s left";
  if (seconds < 90) return `about ${Math.round(seconds)} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

/** What is read aloud when a job has changed; undefined: nothing. */
export function announcementOf(before: Job | undefined, now: Job): string | undefined {
  if (before?.state === now.state && before?.stage === now.stage) return undefined;
  if (now.state === "completed") return "The edit is done";
  if (now.state === "failed") return `The edit failed: ${now.error?.message ?? "no reason was given"}`;
  if (now.state === "cancelled") return "The edit was cancelled";
  return progressOf(now).text;
}

/** A name for the picture of a job: that of its first picture, with what it is. */
export function resultName({ id, inputs, result }: Job): string {
  const stem = (inputs[0]?.name ?? `edit-${id.slice(0, 8)}`).replace(/\.[^.]{1,5}$/, "");
  return `${stem}-edit.${extensionOf(result?.type ?? "")}`;
}

function extensionOf(type: string): string {
  return type === "image/jpeg" ? "jpg" : type === "image/webp" ? "webp" : "png";
}

function isOlder(job: Job, known: Job): boolean {
  if (RANK[job.state] !== RANK[known.state]) return RANK[job.state] < RANK[known.state];
  return job.state === "running" && job.stage === known.stage && (job.step ?? 0) < (known.step ?? 0);
}

function byAge(jobs: Jobs): Jobs {
  return [...jobs].sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0));
}
