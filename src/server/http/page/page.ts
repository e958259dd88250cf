// The page: what its parts show of the server's jobs, and what happens when the user acts.
import { editForm, type Problem } from "./edit-form.js";
import { missingIn, parametersAgain, parametersOf, valuesOf } from "./form-values.js";
import { announcementOf, type Jobs, resultName } from "./job-list.js";
import { jobRows } from "./job-rows.js";
import { JobWatch } from "./job-watch.js";
import { keyDialog } from "./key-dialog.js";
import { maskBrush } from "./mask-brush.js";
import { type Edit, openClient, Refused } from "./page-client.js";
import { element, found } from "./page-elements.js";
import { isEnded, type Job, type Status } from "./page-wire.js";
import { type ChosenPicture, pictureList } from "./picture-list.js";
import { takeFiles } from "./take-files.js";
import { viewer } from "./viewer.js";

/** Pictures that the models which only edit were made for. */
const EDITED_PICTURES = 3;

class EditPage {
  /** The job that is shown large, as it was when it was shown last. */
  #shown: Job | undefined;
  #status: Status | undefined;
  #isReached: boolean | undefined;
  #isSending = false;
  readonly #client = openClient({ askForKey: keyDialog(), onReached: (isReached) => this.#reached(isReached) });
  readonly #watch = new JobWatch(this.#client, {
    onJobs: (jobs) => this.#update(jobs),
    onServer: (status, hasOlder) => {
      this.#status = status;
      this.#takeModel();
      found("older", HTMLButtonElement).hidden = !hasOlder;
    },
    onRefused: ({ message }) => this.#showConnection(`The server refuses: ${message}`),
    onPreview: (id, picture) => id === this.#shown?.id && this.#viewer.preview(picture),
    onWarning: (id, text) => id === this.#shown?.id && this.#viewer.warn(text),
    onGone: (id) => this.#gone(id),
  });
  readonly #viewer = viewer(this.#client, {
    cancel: (job) => this.#cancel(job),
    editFurther: (job) => this.#try(() => this.#editFurther(job)),
    again: (job) => this.#send(async () => ({ ...(await this.#sentPictures(job)), parameters: parametersAgain(job) })),
    load: (job) => this.#try(() => this.#load(job)),
  });
  readonly #rows = jobRows({
    client: this.#client,
    show: (job) => this.#showLarge(job),
    cancel: (job) => this.#cancel(job),
  });
  readonly #paint = maskBrush();
  readonly #form = editForm({ onSubmit: () => this.#submit(), onModel: () => this.#takeModel() });
  readonly #pictures = pictureList({
    paint: (picture) => this.#paintOver(picture),
    announce,
    onProblem: (message, hint) => this.#form.complain({ message, hint, parameter: "image" }),
  });

  async start(): Promise<void> {
    this.#takeModel();
    takeFiles(async (files) => {
      this.#form.complain(undefined);
      await this.#pictures.add(files);
    });
    found("older", HTMLButtonElement).addEventListener("click", () => this.#watch.showOlder());
    this.#viewer.show(undefined);
    await this.#watch.look();
    // After a reload the page goes on with the job that it showed, and with its pictures.
    const id = /^#job=([\w-]+)$/.exec(location.hash)?.[1];
    if (id === undefined) return;
    const job = this.#watch.job(id) ?? (await this.#client.job(id).catch(() => undefined));
    if (job === undefined) return;
    this.#watch.take(job);
    this.#show(job);
    if (this.#pictures.chosen().length === 0) await this.#takePictures(job).catch(() => {});
  }

  #reached(isReached: boolean): void {
    if (this.#isReached === isReached) return;
    this.#isReached = isReached;
    this.#showConnection();
    // After a restart it may have other models.
    if (isReached) this.#client.models().then(this.#form.offer, () => {});
  }

  // The places for pictures that the chosen model has.
  #takeModel(): void {
    const isGenerating = this.#form.model()?.generates === true;
    const most = Math.min(isGenerating ? Infinity : EDITED_PICTURES, this.#status?.limits.pictures ?? EDITED_PICTURES);
    this.#pictures.limit(most);
    const text = `${isGenerating ? "None" : "1"} to ${most}, the first one is edited`;
    const hint = found("drop-hint", HTMLElement);
    if (hint.textContent !== text) hint.textContent = text;
  }

  #showConnection(refusal?: string): void {
    const place = found("connection", HTMLParagraphElement);
    const problem = this.#isReached === false ? "Not connected, trying again" : refusal;
    const text = problem ?? this.#connectionText();
    place.classList.toggle("away", problem !== undefined);
    if (place.textContent !== text) place.textContent = text;
  }

  #connectionText(): string {
    if (this.#status === undefined) return "Connecting…";
    const { phase, device } = this.#status;
    if (phase !== "ready") return phase === "starting" ? "Starting" : "Stopping";
    const open = this.#watch.jobs.filter((job) => !isEnded(job)).length;
    return `${open === 0 ? "Ready" : open === 1 ? "1 edit" : `${open} edits`} on ${device}`;
  }

  // Shows the jobs as they are now.
  #update(jobs: Jobs): void {
    this.#rows(jobs, this.#shown?.id);
    this.#showConnection();
    const before = this.#shown;
    const job = jobs.find(({ id }) => id === before?.id);
    if (job === undefined) return;
    this.#shown = job;
    const text = announcementOf(before, job);
    if (text !== undefined) announce(text);
    this.#viewer.show(job);
    document.title = isEnded(job) ? "qedit" : `${job.steps ? `${job.step ?? 0}/${job.steps}` : "…"} qedit`;
    this.#watch.follow(job);
  }

  #show(job: Job): void {
    this.#shown = job;
    history.replaceState(null, "", `#job=${job.id}`);
    this.#update(this.#watch.jobs);
  }

  #showLarge(job: Job): void {
    this.#show(job);
    found("viewer", HTMLElement).focus({ preventScroll: true });
    bringToView();
  }

  #gone(id: string): void {
    if (this.#shown?.id !== id) return;
    this.#shown = undefined;
    this.#viewer.show(undefined);
    this.#form.complain({ message: "The server does not know this edit any more", hint: "Send it again" });
  }

  #submit(): void {
    const chosen = this.#pictures.chosen();
    const values = this.#form.values();
    const missing = missingIn(values, chosen.length, this.#form.model()?.generates === true);
    this.#form.complain(missing);
    if (missing !== undefined) return;
    const mask = chosen[0]?.mask?.file;
    const parameters = parametersOf(values, { hasMask: mask !== undefined });
    this.#send(async () => ({ pictures: chosen.map(({ file }) => file), mask, parameters }));
  }

  // Sends an edit, one at a time, and shows it unless one is being watched.
  #send(edit: () => Promise<Edit>): void {
    if (this.#isSending) return;
    this.#isSending = true;
    const button = found("submit", HTMLButtonElement);
    button.setAttribute("aria-disabled", "true");
    button.textContent = "Sending…";
    this.#try(async () => {
      try {
        const job = await this.#client.submit(await edit(), this.#status?.limits.body ?? Infinity);
        this.#watch.take(job);
        if (this.#shown?.state !== "running") this.#show(job);
        bringToView();
        announce("The edit was accepted");
        void this.#watch.look();
      } finally {
        this.#isSending = false;
        button.removeAttribute("aria-disabled");
        button.textContent = "Edit";
      }
    });
  }

  #cancel(job: Job): void {
    this.#try(async () => this.#watch.take(await this.#client.cancel(job.id)));
  }

  async #editFurther(job: Job): Promise<void> {
    const picture = await this.#client.picture(`/v1/jobs/${encodeURIComponent(job.id)}/content`);
    await this.#pictures.replace([new File([picture], resultName(job), { type: picture.type })]);
    announce("The result is now picture 1");
    this.#form.focus();
  }

  async #load(job: Job): Promise<void> {
    this.#form.fill(valuesOf(job));
    await this.#takePictures(job);
    announce("Pictures and settings were loaded");
    this.#form.focus();
  }

  async #takePictures(job: Job): Promise<void> {
    const { pictures, mask } = await this.#sentPictures(job);
    await this.#pictures.replace(pictures, mask);
  }

  async #sentPictures({ id, inputs, mask }: Job): Promise<{ pictures: File[]; mask: File | undefined }> {
    const fetched = async (name: string, from: string) => {
      const picture = await this.#client.picture(`/v1/jobs/${encodeURIComponent(id)}/${from}`);
      return new File([picture], name, { type: picture.type });
    };
    return {
      pictures: await Promise.all(inputs.map(({ name }, index) => fetched(name, `inputs/${index + 1}`))),
      mask: mask && (await fetched(mask.name, "mask")),
    };
  }

  async #paintOver(picture: ChosenPicture): Promise<File | "none" | undefined> {
    try {
      return await this.#paint(picture);
    } catch {
      this.#form.complain({ message: `Cannot show ${picture.file.name} here`, hint: "Convert it to PNG or JPEG" });
      return undefined;
    }
  }

  // Does what the user asked for; what fails is said.
  #try(action: () => Promise<void>): void {
    this.#form.complain(undefined);
    action().catch((error: unknown) => this.#form.complain(problemOf(error)));
  }
}

function problemOf(error: unknown): Problem {
  if (error instanceof Refused) return error;
  // What fetch throws.
  if (error instanceof TypeError)
    return { message: "The server cannot be reached", hint: "Start it, and send the edit again" };
  return { message: error instanceof Error ? error.message : String(error) };
}

// Brings the large view to the top where it stands below the form, and otherwise only into the window.
function bringToView(): void {
  const [form, place] = [found("edit", HTMLFormElement), found("viewer", HTMLElement)];
  const isBelow = place.getBoundingClientRect().top >= form.getBoundingClientRect().bottom;
  place.scrollIntoView({ block: isBelow ? "start" : "nearest" });
}

// Read aloud; emptied first, so that equal texts are read again.
function announce(text: string): void {
  const place = found("announcer", HTMLParagraphElement);
  place.replaceChildren();
  setTimeout(() => place.replaceChildren(element("span", {}, text)), 50);
}

void new EditPage().start();
