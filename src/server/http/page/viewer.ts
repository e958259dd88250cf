// The large view of one job: what it makes while it runs, then the result beside its original, or why there is none.

import { comparison } from "./compare.js";
import { factsOf } from "./job-facts.js";
import { progressOf, resultName } from "./job-list.js";
import type { Client } from "./page-client.js";
import { button, element, found } from "./page-elements.js";
import { isEnded, type Job } from "./page-wire.js";

/** What the user may do with a job. */
export interface JobActions {
  readonly cancel: (job: Job) => void;
  /** Takes the result as picture 1 of a new edit. */
  readonly editFurther: (job: Job) => void;
  readonly again: (job: Job) => void;
  /** Takes pictures and settings of the job into the form. */
  readonly load: (job: Job) => void;
}

/** The view. */
export interface Viewer {
  /** Shows a job, or that there is none. */
  readonly show: (job: Job | undefined) => void;
  /** Shows a preview of the job that is shown. */
  readonly preview: (picture: Blob) => void;
  /** Adds a warning about the job that is shown. */
  readonly warn: (text: string) => void;
}

/** The view in `#view`. */
export function viewer(client: Client, actions: JobActions): Viewer {
  const view = found("view", HTMLDivElement);
  const pictures = pictureUrls(client);
  let shown: { readonly key: string; readonly update: (job: Job) => void } | undefined;
  let current: string | undefined;
  let [warnings, preview]: [Set<string>, HTMLImageElement | undefined] = [new Set(), undefined];
  const change = (job: Job | undefined): ((job: Job) => void) => {
    if (job?.id !== current) {
      pictures.release();
      [warnings, preview, current] = [new Set(), undefined, job?.id];
    }
    if (job === undefined) {
      view.replaceChildren(element("div", { class: "empty" }, element("p", {}, "Your result appears here")));
      return () => {};
    }
    if (!isEnded(job)) {
      preview = element("img", { class: "preview", alt: "Preview", hidden: true });
      const { root, update } = working(preview, actions, job);
      view.replaceChildren(root);
      pictures.original(job).then(
        (url) => url !== undefined && preview?.hidden && showIn(preview, url),
        () => {},
      );
      return update;
    }
    view.replaceChildren(...(job.state === "completed" ? completed(job, pictures, actions) : ended(job, actions)));
    if (warnings.size > 0) view.append(warningList(warnings));
    return () => {};
  };
  return {
    show(job) {
      const key = job === undefined ? "" : `${job.id} ${isEnded(job) ? job.state : "open"}`;
      if (shown?.key !== key) shown = { key, update: change(job) };
      if (job !== undefined) shown.update(job);
    },
    preview(picture) {
      if (preview === undefined) return;
      const url = pictures.keep("preview", picture);
      preview.alt = "Preview of the result";
      showIn(preview, url);
      preview.classList.add("live");
    },
    warn(text) {
      if (warnings.has(text)) return;
      warnings.add(text);
      view.querySelector(".warnings")?.remove();
      view.append(warningList(warnings));
    },
  };
}

function showIn(picture: HTMLImageElement, url: string): void {
  picture.src = url;
  picture.hidden = false;
}

function working(
  preview: HTMLImageElement,
  { cancel }: JobActions,
  job: Job,
): { root: HTMLElement; update: (job: Job) => void } {
  const text = element("strong", {});
  const left = element("span", { class: "left" });
  const bar = element("progress", { max: 1, "aria-label": "Progress of the edit" });
  preview.addEventListener("error", () => (preview.hidden = true));
  const root = element(
    "div",
    { class: "working" },
    element("div", { class: "frame" }, preview),
    element("div", { class: "progress" }, text, left, bar, button("Cancel", { click: () => cancel(job) })),
    element("p", { class: "prompt" }, promptOf(job)),
  );
  return {
    root,
    update(now) {
      const progress = progressOf(now);
      [text.textContent, left.textContent] = [progress.text, progress.left];
      if (progress.share === undefined) bar.removeAttribute("value");
      else bar.value = progress.share;
    },
  };
}

function completed(job: Job, pictures: PictureUrls, { editFurther, again, load }: JobActions): HTMLElement[] {
  const { result } = job;
  if (result === undefined) return [];
  const place = element("div", { class: "frame" }, element("p", { class: "waiting" }, "Loading the picture"));
  const download = element("a", { class: "button primary", download: resultName(job) }, "Download");
  Promise.all([pictures.original(job).catch(() => undefined), pictures.result(job)]).then(
    ([before, after]) => {
      download.href = after;
      const { width, height } = result;
      place.replaceChildren(comparison({ before, after, width, height, text: `Result: ${promptOf(job)}` }));
    },
    (error: Error) => place.replaceChildren(element("p", { class: "waiting" }, `Cannot load it: ${error.message}`)),
  );
  return [
    place,
    element("p", { class: "prompt" }, promptOf(job)),
    element(
      "div",
      { class: "buttons" },
      download,
      button("Edit this further", { click: () => editFurther(job) }),
      button("Again with another seed", { click: () => again(job) }),
      button("Load settings", { click: () => load(job) }),
    ),
    details(job),
  ];
}

function details(job: Job): HTMLElement {
  const rows = factsOf(job).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  const recipe = element("pre", { tabindex: 0, "aria-label": "Recipe as JSON" });
  const whole = element("details", {}, element("summary", {}, "Whole recipe"), recipe);
  whole.addEventListener("toggle", () => (recipe.textContent = JSON.stringify(job.result?.recipe, undefined, 2)));
  return element(
    "details",
    { class: "recipe" },
    element("summary", {}, "How it was made"),
    element("dl", {}, ...rows),
    whole,
  );
}

function ended(job: Job, { load }: JobActions): HTMLElement[] {
  const isCancelled = job.state === "cancelled";
  const { message = "No reason was given", hint } = job.error ?? {};
  const text = isCancelled ? [] : [element("p", {}, message), ...(hint ? [element("p", { class: "hint" }, hint)] : [])];
  return [
    element(
      "div",
      { class: isCancelled ? "ended" : "ended failed" },
      element("strong", {}, isCancelled ? "This edit was cancelled" : "This edit failed"),
      ...text,
    ),
    element("p", { class: "prompt" }, promptOf(job)),
    element("div", { class: "buttons" }, button("Load settings", { click: () => load(job) })),
  ];
}

function warningList(warnings: ReadonlySet<string>): HTMLElement {
  const rows = [...warnings].map((text) => element("li", {}, text));
  return element("ul", { class: "warnings", "aria-label": "Warnings" }, ...rows);
}

/** The prompt of a job. */
export function promptOf({ parameters }: Pick<Job, "parameters">): string {
  return typeof parameters["prompt"] === "string" ? parameters["prompt"] : "";
}

/** URLs of a job's pictures; images cannot send an API key, so that each is fetched. */
interface PictureUrls {
  readonly original: (job: Job) => Promise<string | undefined>;
  readonly result: (job: Job) => Promise<string>;
  /** A URL in place of the one that had this name. */
  readonly keep: (name: string, picture: Blob) => string;
  readonly release: () => void;
}

function pictureUrls(client: Client): PictureUrls {
  let urls = new Map<string, string>();
  const keep = (name: string, picture: Blob, among = urls) => {
    const before = among.get(name);
    if (before !== undefined) URL.revokeObjectURL(before);
    const url = URL.createObjectURL(picture);
    // What comes for a job that is shown no more is not kept.
    if (among === urls) urls.set(name, url);
    else URL.revokeObjectURL(url);
    return url;
  };
  const fetched = async (name: string, path: string) => {
    const known = urls.get(name);
    const among = urls;
    return known ?? keep(name, await client.picture(path), among);
  };
  return {
    original: async ({ id, inputs }) =>
      inputs.length === 0 ? undefined : fetched("original", `/v1/jobs/${encodeURIComponent(id)}/inputs/1`),
    result: ({ id }) => fetched("result", `/v1/jobs/${encodeURIComponent(id)}/content`),
    keep,
    release() {
      for (const url of urls.values()) URL.revokeObjectURL(url);
      urls = new Map();
    },
  };
}
