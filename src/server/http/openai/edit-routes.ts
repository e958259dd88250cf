// POST /v1/images/edits and /v1/images/generations as OpenAI's SDKs call them: one answer with all pictures, or a stream of previews and pictures.
// https://platform.openai.com/docs/api-reference/images/createEdit
import type { Context } from "hono";
import { Hono } from "hono";
import { FORMATS } from "../../../edit/finish/picture-encoding.js";
import type { EditRequest } from "../../../edit/request/edit-request.js";
import { noPicture } from "../../../edit/resolve/without-picture.js";
import type { Image } from "../../../image/image.js";
import { encodePicture } from "../../../image/io/write.js";
import type { EditServer } from "../../edit-server.js";
import type { JobEvent, JobResult } from "../../job-types.js";
import { checkCount } from "../../limits.js";
import type { ServerJob } from "../../server-job.js";
import type { HttpApp, HttpContext, HttpEnv } from "../http-context.js";
import { errorAnswer, HttpError } from "../http-error.js";
import { readBody } from "../request-body.js";
import { eventStream } from "../sse.js";
import { ofForm, ofJson } from "./edit-body.js";
import { type AnswerOptions, readFields } from "./edit-fields.js";
import { pictureFetcher } from "./remote-picture.js";

/** Seeds have 64 bits. */
const SEEDS = 2n ** 64n;

/** The routes of image edits and generations. */
export function editRoutes({ server, urlHosts }: HttpContext): HttpApp {
  const app = new Hono<HttpEnv>();
  app.post("/v1/images/edits", async (c) => {
    const body = await readBody(c, server.limits);
    const { count, fields, read } = "json" in body ? ofJson(body.json) : ofForm(body.parts);
    if (count === 0) throw noPicture();
    checkCount(count, server.limits);
    const { parameters, answer } = await readFields(fields, server.base.settings.model);
    const { body: most } = server.limits;
    const { pictures, mask } = await read(pictureFetcher({ hosts: urlHosts, most, signal: c.req.raw.signal }));
    // The mask of OpenAI's API says where the picture may change.
    const masked = mask === undefined || parameters["crop_mask"] ? {} : { paste_back: true };
    const request = { pictures, mask, parameters: { ...masked, ...parameters } };
    return answered(c, { server, request, answer, events: "image_edit" });
  });
  app.post("/v1/images/generations", async (c) => {
    const body = await readBody(c, server.limits);
    const fields = "json" in body ? body.json : refuseForm();
    for (const parameter of OF_EDITS)
      if (fields[parameter] !== undefined && fields[parameter] !== null)
        throw new HttpError(400, "unsupported_parameter", "A generation takes no pictures", {
          hint: "Send them to /v1/images/edits",
          parameter,
        });
    const { parameters, answer } = await readFields(fields, server.base.settings.model);
    return answered(c, { server, request: { pictures: [], parameters }, answer, events: "image_generation" });
  });
  return app;
}

/** Fields with pictures. */
const OF_EDITS = ["image", "images", "url", "mask"] as const;

function refuseForm(): never {
  throw new HttpError(415, "unsupported_media_type", "A generation is asked for in JSON", {
    hint: "Send Content-Type: application/json",
  });
}

interface Asked {
  readonly server: EditServer;
  readonly request: EditRequest;
  readonly answer: AnswerOptions;
  /** What the names of streamed events begin with. */
  readonly events: "image_edit" | "image_generation";
}

async function answered(c: Context<HttpEnv>, asked: Asked): Promise<Response> {
  const { server, request, answer } = asked;
  const { signal } = c.req.raw;
  refuseMoreThanQueue(answer, server);
  const jobs = await submitAll(server, request, { ...answer, traceparent: c.var.traceparent });
  c.var.arriving.release();
  // They are of this request alone, and nobody else can fetch what they make.
  const cancelAll = () => {
    for (const job of jobs) void job.cancel();
  };
  // It may have gone before they were accepted.
  if (signal.aborted) cancelAll();
  if (answer.isStream) return streamed(jobs, asked, cancelAll);
  signal.addEventListener("abort", cancelAll, { once: true });
  const results = await allOf(jobs);
  signal.removeEventListener("abort", cancelAll);
  const data = await Promise.all(
    jobs.map(async (job, index) => ({ b64_json: base64(await job.content()), seed: results[index]!.seed })),
  );
  return c.json({ created: now(), data, ...described(results[0]!, answer) });
}

// However long a client waited, there would be no room for all of them.
function refuseMoreThanQueue({ n }: AnswerOptions, { limits: { queue } }: EditServer): void {
  if (n <= queue) return;
  throw new HttpError(
    400,
    "invalid_value",
    `Cannot use "n": ${n} pictures are wanted, and the queue takes ${queue} jobs`,
    {
      hint: `Ask for ${queue} at most, or start the server with a larger max-queue`,
      parameter: "n",
    },
  );
}

// One job for each picture, their seeds one after the other. All or none.
async function submitAll(
  server: EditServer,
  request: EditRequest,
  { n, partialImages, isStream, keepAlive, traceparent }: AnswerOptions & { readonly traceparent: string | undefined },
): Promise<ServerJob[]> {
  const hasPreviews = isStream && partialImages > 0;
  const jobs: ServerJob[] = [];
  try {
    for (let index = 0; index < n; index += 1) {
      const parameters =
        index === 0 ? request.parameters : { ...request.parameters, seed: seedAfter(jobs[0]!, index, request) };
      jobs.push(await server.submit({ ...request, parameters }, { hasPreviews, keepAlive, traceparent }));
    }
    return jobs;
  } catch (error) {
    for (const job of jobs) await job.cancel();
    throw error;
  }
}

function seedAfter(first: ServerJob, index: number, { parameters }: EditRequest): string {
  if (parameters["seed"] === "random") return "random";
  return String((BigInt(first.seed) + BigInt(index)) % SEEDS);
}

// When one fails, so does the request: the others are not made.
async function allOf(jobs: readonly ServerJob[]): Promise<readonly JobResult[]> {
  try {
    return await Promise.all(jobs.map(({ outcome }) => outcome));
  } catch (error) {
    for (const job of jobs) await job.cancel();
    throw error;
  }
}

function streamed(jobs: readonly ServerJob[], { answer, request, events }: Asked, cancelAll: () => void): Response {
  return eventStream((sink) => {
    sink.signal.addEventListener("abort", cancelAll);
    const send = (type: string, facts: object) => sink.send(type, { type, ...facts });
    const one = async (job: ServerJob) => {
      const previews = new Previews(answer.partialImages, async (image, index) => {
        const format = FORMATS[String(request.parameters["format"] ?? "png")] ?? "png";
        const b64_json = base64(await encodePicture(image, { format }));
        const { width, height } = image;
        send(`${events}.partial_image`, {
          ...{ b64_json, partial_image_index: index, created_at: now(), size: `${width}x${height}` },
          ...{ quality: answer.quality, background: "opaque", output_format: format },
        });
      });
      const stop = job.subscribe((event) => previews.take(event));
      const result = await job.outcome.finally(stop);
      await previews.settled;
      const b64_json = base64(await job.content());
      send(`${events}.completed`, { b64_json, seed: result.seed, created_at: now(), ...described(result, answer) });
    };
    const work = async () => {
      for (const job of jobs) await one(job);
    };
    work()
      .catch(async (error: unknown) => {
        for (const job of jobs) await job.cancel();
        sink.send("error", errorAnswer(error).body);
      })
      .finally(() => sink.close());
  });
}

/** Chooses the previews that are sent: `count` of them, as far apart as the steps allow. */
class Previews {
  settled: Promise<void> = Promise.resolve();
  #total = 0;
  #sent = 0;

  constructor(
    private readonly count: number,
    private readonly send: (image: Image, index: number) => Promise<void>,
  ) {}

  take(event: JobEvent): void {
    if (event.kind === "progress" && event.event.kind === "step") this.#total = event.event.total;
    if (event.kind !== "preview" || this.#sent >= this.count) return;
    // There is none after the last step.
    const wanted = Math.floor((this.#total * (this.#sent + 1)) / (this.count + 1));
    if (event.step < wanted) return;
    const index = this.#sent;
    this.#sent += 1;
    this.settled = this.settled.then(() => this.send(event.image, index)).catch(() => {});
  }
}

function described({ width, height, type }: JobResult, { quality }: AnswerOptions): object {
  return { size: `${width}x${height}`, quality, background: "opaque", output_format: type.replace("image/", "") };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
