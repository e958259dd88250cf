// Lists of jobs: those that wait, with their place, and those that have ended, each with a small picture.

import { endedJobs, type Jobs, openJobs, progressOf } from "./job-list.js";
import type { Client } from "./page-client.js";
import { button, element, found, keyedList, type Row, within } from "./page-elements.js";
import { isEnded, type Job } from "./page-wire.js";
import { promptOf } from "./viewer.js";

/** What the rows call. */
export interface JobRowOptions {
  readonly client: Client;
  readonly show: (job: Job) => void;
  readonly cancel: (job: Job) => void;
}

/** Pixels of a small picture's longer side. */
const SMALL = 320;

/** A function that shows the jobs in the lists of the page, with the one that is shown large marked. */
export function jobRows({ client, show, cancel }: JobRowOptions): (jobs: Jobs, shown: string | undefined) => void {
  const queue = found("queue", HTMLElement);
  const history = found("history", HTMLElement);
  const thumbnails = smallPictures(client);
  let marked: string | undefined;
  const showQueue = keyedList<Job>(within(queue, "ol", HTMLOListElement), {
    keyOf: ({ id }) => id,
    create: (job) => queueRow(job, { show, cancel, isMarked: () => job.id === marked }),
  });
  const showHistory = keyedList<Job>(within(history, "ul", HTMLUListElement), {
    keyOf: ({ id }) => id,
    create: (job) => historyRow(job, { show, isMarked: () => job.id === marked, thumbnails }),
  });
  return (jobs, shown) => {
    marked = shown;
    const [open, ended] = [openJobs(jobs), endedJobs(jobs)];
    [queue.hidden, history.hidden] = [open.length === 0, ended.length === 0];
    showQueue(open);
    showHistory(ended);
  };
}

function queueRow(
  first: Job,
  { show, cancel, isMarked }: Pick<JobRowOptions, "show" | "cancel"> & { isMarked: () => boolean },
): Row<Job> {
  let job = first;
  const state = element("span", { class: "state" });
  const open = button("", { class: "open", click: () => show(job) });
  open.append(element("span", { class: "prompt" }, promptOf(job) || "Without a prompt"), state);
  const stop = button("Cancel", { "aria-label": `Cancel: ${promptOf(job)}`, click: () => cancel(job) });
  return {
    root: element("li", {}, open, stop),
    update(now) {
      job = now;
      const { text, left } = progressOf(job);
      state.textContent = left === "" ? text : `${text}, ${left}`;
      mark(open, isMarked());
    },
  };
}

function historyRow(
  first: Job,
  { show, isMarked, thumbnails }: Pick<JobRowOptions, "show"> & { isMarked: () => boolean; thumbnails: SmallPictures },
): Row<Job> {
  let job = first;
  const state = job.state === "completed" ? "" : job.state === "failed" ? "Failed" : "Cancelled";
  const time = new Date(job.created);
  const open = button("", { class: "open", click: () => show(job) });
  const place = element("span", { class: "thumbnail" });
  open.append(
    place,
    element("span", { class: "prompt" }, promptOf(job) || "Without a prompt"),
    element("span", { class: "state" }, element("time", { datetime: job.created }, timeText(time))),
  );
  if (job.result) thumbnails.fill(place, `/v1/jobs/${encodeURIComponent(job.id)}/content`);
  else place.textContent = state;
  return {
    root: element("li", { class: job.state }, open),
    update(now) {
      job = isEnded(now) ? now : job;
      mark(open, isMarked());
    },
  };
}

function mark(open: HTMLButtonElement, isMarked: boolean): void {
  if (isMarked) open.setAttribute("aria-current", "true");
  else open.removeAttribute("aria-current");
}

function timeText(time: Date): string {
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday
    ? time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : time.toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

interface SmallPictures {
  /** Puts the small form of a picture into a place when that comes into view. */
  readonly fill: (place: HTMLElement, path: string) => void;
}

function smallPictures(client: Client): SmallPictures {
  const paths = new WeakMap<Element, string>();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const path = paths.get(target);
        if (!isIntersecting || path === undefined) continue;
        observer.unobserve(target);
        // Without it the row still has its prompt.
        smallPicture(client, path).then(
          (picture) => target.replaceChildren(picture),
          () => {},
        );
      }
    },
    { rootMargin: "200px" },
  );
  return {
    fill(place, path) {
      paths.set(place, path);
      observer.observe(place);
    },
  };
}

async function smallPicture(client: Client, path: string): Promise<HTMLCanvasElement> {
  const bitmap = await createImageBitmap(await client.picture(path));
  const scale = Math.min(1, SMALL / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", { "aria-hidden": "true" });
  [canvas.width, canvas.height] = [Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale)];
  const context = canvas.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}
