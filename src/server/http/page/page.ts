// The page: what its parts show of the server's jobs, and what happens when the user acts.

import { editForm, type Problem } from "./edit-form.js";
import { missingIn, parametersAgain, parametersOf, valuesOf } from "./form-values.js";
import { announcementOf, type Jobs, resultName, withJob, withList, withProgress } from "./job-list.js";
import { jobRows } from "./job-rows.js";
import { keyDialog } from "./key-dialog.js";
import { maskBrush } from "./mask-brush.js";
import { openClient, Refused } from "./page-client.js";
import { element, found } from "./page-elements.js";
import { isEnded, type Job, type Progress, type Status } from "./page-wire.js";
import { pictureList } from "./picture-list.js";
import { takeFiles } from "./take-files.js";
import { viewer } from "./viewer.js";

/** Jobs that are asked for at first, and after "older". */
const LISTED = { first: 40, all: 200 };
/** Milliseconds between two looks at the server: while a job is open, otherwise, and while nobody sees the page. */
const LOOK = { open: 2_000, idle: 10_000, hidden: 30_000 };

let jobs: Jobs = [];
let shown: string | undefined;
let limit = LISTED.first;
let following: { readonly id: string; readonly stop: AbortController } | undefined;
let isReached: boolean | undefined;
let status: Status | undefined;
let looking: ReturnType<typeof setTimeout> | undefined;

const client = openClient({ askForKey: keyDialog(), onReached });
const view = viewer(client, { cancel, editFurther, again, load });
const rows = jobRows({ client, show, cancel });
const paint = maskBrush();
const form = editForm({ onSubmit: () => void submit() });
const pictures = pictureList({
  paint: (picture) =>
    paint(picture).catch(() => {
      form.complain({ message: `Cannot show ${picture.file.name} here`, hint: "Convert it to PNG or JPEG" });
      return undefined;
    }),
  announce,
  onProblem: (message, hint) => form.complain({ message, hint }),
});

takeFiles(async (files) => {
  form.complain(undefined);
  await pictures.add(files);
});
found("older", HTMLButtonElement).addEventListener("click", () => {
  limit = LISTED.all;
  void look();
});
document.addEventListener("visibilitychange", () => document.hidden || void look());
void start();

async function start(): Promise<void> {
  view.show(undefined);
  await look();
  const linked = /^#job=([\w-]+)$/.exec(location.hash)?.[1];
  const job = jobs.find(({ id }) => id === linked) ?? (linked && (await client.job(linked).catch(() => undefined)));
  if (!job) return;
  change(withJob(jobs, job));
  show(job, { isQuiet: true });
  if (pictures.chosen().length === 0) await takePictures(job).catch(() => {});
}

// Asks for the state of the server and its jobs, and does so again after a while.
async function look(): Promise<void> {
  clearTimeout(looking);
  const asked = new Set(jobs.map(({ id }) => id));
  try {
    status = await client.status();
    const list = await client.jobs(limit);
    const isWhole = status.phase === "ready" && list.length < limit;
    found("older", HTMLButtonElement).hidden = list.length < limit || limit === LISTED.all;
    change(withList(jobs, list, { asked, isWhole }));
  } catch (error) {
    if (error instanceof Refused) form.complain(error);
  }
  showConnection();
  const isOpen = jobs.some((job) => !isEnded(job)) || isReached === false;
  clearTimeout(looking);
  looking = setTimeout(() => void look(), document.hidden ? LOOK.hidden : isOpen ? LOOK.open : LOOK.idle);
}

function onReached(reached: boolean): void {
  if (isReached === reached) return;
  isReached = reached;
  showConnection();
  // After a restart it may have other models.
  if (reached) client.models().then(form.offer, () => {});
}

function showConnection(): void {
  const place = found("connection", HTMLParagraphElement);
  place.classList.toggle("away", isReached === false);
  const text = isReached === false ? "Not connected, trying again" : connectionText();
  if (place.textContent !== text) place.textContent = text;
}

function connectionText(): string {
  if (status === undefined) return "Connecting…";
  if (status.phase === "starting") return "Starting";
  if (status.phase === "draining") return "Stopping";
  const open = jobs.filter((job) => !isEnded(job)).length;
  return `${open === 0 ? "Ready" : open === 1 ? "1 edit" : `${open} edits`} on ${status.device}`;
}

// Takes jobs as they are now, and shows them.
function change(changed: Jobs): void {
  const before = jobs.find(({ id }) => id === shown);
  jobs = changed;
  const job = jobs.find(({ id }) => id === shown);
  rows(jobs, shown);
  showConnection();
  if (job === undefined) return;
  const text = announcementOf(before, job);
  if (text !== undefined && before !== undefined) announce(text);
  view.show(job);
  const { step, steps } = job;
  document.title = isEnded(job) ? "qedit" : `${steps ? `${step ?? 0}/${steps}` : "…"} qedit`;
  if (!isEnded(job)) follow(job.id);
}

function show(job: Job, { isQuiet = false }: { isQuiet?: boolean } = {}): void {
  shown = job.id;
  if (following?.id !== job.id) following?.stop.abort();
  history.replaceState(null, "", `#job=${job.id}`);
  view.show(job);
  change(jobs);
  if (isQuiet) return;
  const place = found("viewer", HTMLElement);
  place.focus({ preventScroll: true });
  place.scrollIntoView({ block: "nearest" });
}

function follow(id: string): void {
  if (following?.id === id && !following.stop.signal.aborted) return;
  following?.stop.abort();
  const stop = new AbortController();
  following = { id, stop };
  const follower = {
    onJob: (job: Job) => change(withJob(jobs, job)),
    onProgress(event: Progress) {
      if (event.event === "warning" && id === shown) view.warn(event.text);
      else change(withProgress(jobs, id, event));
    },
    onPreview: (picture: Blob) => id === shown && view.preview(picture),
    onGone() {
      jobs = jobs.filter((job) => job.id !== id);
      shown = undefined;
      view.show(undefined);
      rows(jobs, shown);
      form.complain({ message: "The server does not know this edit any more", hint: "Send it again" });
    },
  };
  void client.follow(id, follower, stop.signal).then(() => stop.abort());
}

async function submit(): Promise<void> {
  const chosen = pictures.chosen();
  const values = form.values();
  const missing = missingIn(values, chosen.length);
  form.complain(missing);
  if (missing !== undefined) return;
  const mask = chosen[0]?.mask?.file;
  const parameters = parametersOf(values, { hasMask: mask !== undefined });
  await send(() => client.submit({ pictures: chosen.map(({ file }) => file), mask, parameters }));
}

// Sends an edit, and shows it unless another one is being watched.
async function send(submitted: () => Promise<Job>): Promise<void> {
  const button = found("submit", HTMLButtonElement);
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  button.textContent = "Sending…";
  try {
    form.complain(undefined);
    const job = await submitted();
    change(withJob(jobs, job));
    const watched = jobs.find(({ id }) => id === shown);
    if (watched?.state !== "running") show(job, { isQuiet: true });
    found("viewer", HTMLElement).scrollIntoView({ block: "nearest" });
    announce("The edit was accepted");
    void look();
  } catch (error) {
    form.complain(problemOf(error));
  } finally {
    button.removeAttribute("aria-disabled");
    button.textContent = "Edit";
  }
}

function cancel(job: Job): void {
  client.cancel(job.id).then(
    (cancelled) => change(withJob(jobs, cancelled)),
    (error) => form.complain(problemOf(error)),
  );
}

function editFurther(job: Job): void {
  void (async () => {
    try {
      const picture = await client.picture(`/v1/jobs/${encodeURIComponent(job.id)}/content`);
      await pictures.replace([new File([picture], resultName(job), { type: picture.type })]);
      announce("The result is now picture 1");
      form.focus();
    } catch (error) {
      form.complain(problemOf(error));
    }
  })();
}

function again(job: Job): void {
  void send(async () => {
    const sent = await sentPictures(job);
    return client.submit({ ...sent, parameters: parametersAgain(job) });
  });
}

function load(job: Job): void {
  void (async () => {
    form.complain(undefined);
    form.fill(valuesOf(job));
    try {
      await takePictures(job);
      announce("Pictures and settings were loaded");
    } catch (error) {
      form.complain(problemOf(error));
    }
    form.focus();
  })();
}

async function takePictures(job: Job): Promise<void> {
  const { pictures: files, mask } = await sentPictures(job);
  await pictures.replace(files, mask);
}

async function sentPictures({ id, inputs, mask }: Job): Promise<{ pictures: File[]; mask: File | undefined }> {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const fetched = async (name: string, from: string) => {
    const picture = await client.picture(`${path}/${from}`);
    return new File([picture], name, { type: picture.type });
  };
  return {
    pictures: await Promise.all(inputs.map(({ name }, index) => fetched(name, `inputs/${index + 1}`))),
    mask: mask && (await fetched(mask.name, "mask")),
  };
}

function problemOf(error: unknown): Problem {
  if (error instanceof Refused) return error;
  if (error instanceof TypeError)
    return { message: "The server cannot be reached", hint: "Start it again, then send the edit again" };
  return { message: error instanceof Error ? error.message : String(error) };
}

// Read aloud; emptied first, so that equal texts are read again.
function announce(text: string): void {
  const place = found("announcer", HTMLParagraphElement);
  place.replaceChildren();
  setTimeout(() => place.replaceChildren(element("span", {}, text)), 50);
}
