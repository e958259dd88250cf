// Jobs over HTTP: an edit is accepted at once, followed by events, and its picture fetched when it is there.

import type { Context } from "hono";
import { Hono } from "hono";
import { etag } from "hono/etag";
import { defaulted, jsonOfTexts, readValue } from "../../edit/parameters/parameter.js";
import { toggle } from "../../edit/parameters/parameter-kinds.js";
import { type EditRequest, type NamedBytes, parameterOfText } from "../../edit/request/edit-request.js";
import { encodePicture } from "../../image/io/write.js";
import { fromBase64 } from "../../std/base64.js";
import { QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { isObject } from "../../std/guards.js";
import { isFinal, type JobSnapshot } from "../job-types.js";
import type { ServerLimits } from "../limits.js";
import type { ServerJob } from "../server-job.js";
import { inOrder, onlyOne } from "./form-parts.js";
import type { HttpApp, HttpContext, HttpEnv } from "./http-context.js";
import { HttpError, textsOf, type WriteText } from "./http-error.js";
import type { FilePart, FormPart } from "./multipart.js";
import { invalidQuery, queryOf } from "./query.js";
import { fileName, namelessOf, readBody } from "./request-body.js";
import { eventStream } from "./sse.js";

/** Jobs that a list has at most. */
const MOST_LISTED = 200;

/** Names under which forms send a picture. */
const IMAGE_PART = /^images?(\[\d*\])?$/;

/** What a job reads besides the parameters of its edit. */
const PREVIEWS = defaulted(toggle, false, { summary: "whether its events have previews", group: "Server" });

/** Idempotency-Key, https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header */
const KEY = /^[\x21-\x7e]{1,255}$/;

/** The routes of jobs, and what a client asks about the server. */
export function jobRoutes({ server, version }: HttpContext): HttpApp {
  const app = new Hono<HttpEnv>();
  const shown = (c: Context<HttpEnv>, job: ServerJob) => shownJob(job.snapshot(), textsOf(c));
  app.post("/v1/jobs", async (c) => {
    const key = c.req.header("idempotency-key");
    if (key !== undefined && !KEY.test(key))
      throw new HttpError(
        400,
        "invalid_request",
        "The header Idempotency-Key must be 1 to 255 visible ASCII characters",
      );
    const hasPaths = c.env.isLocalSocket === true;
    const { request, hasPreviews } = await readJob(c, server.limits);
    const job = await server.submit(request, {
      isDurable: true,
      hasPreviews,
      key,
      hasPaths,
      traceparent: c.var.traceparent,
    });
    return c.json(shown(c, job), 202, { location: `/v1/jobs/${job.id}` });
  });
  app.get("/v1/jobs", (c) => {
    const limit = Number(queryOf(c, "limit", /^[1-9]\d{0,2}$/) ?? MOST_LISTED);
    if (limit > MOST_LISTED) throw invalidQuery("limit");
    const jobs = [...server.jobs()].reverse().slice(0, limit);
    return c.json({ jobs: jobs.map((job) => shown(c, job)) });
  });
  const jobOf = (c: Context<HttpEnv>): ServerJob => {
    const job = server.job(c.req.param("id")!);
    if (job !== undefined) return job;
    throw new HttpError(404, "job_not_found", "There is no such job", { hint: "Ended jobs are removed after a while" });
  };
  app.get("/v1/jobs/:id", (c) => c.json(shown(c, jobOf(c))));
  app.delete("/v1/jobs/:id", async (c) => {
    const job = jobOf(c);
    await job.cancel();
    return c.json(shown(c, job));
  });
  app.get("/v1/jobs/:id/events", (c) => eventsOf(jobOf(c), textsOf(c)));
  app.get("/v1/jobs/:id/content", etag(), async (c) => {
    const job = jobOf(c);
    const { state, result } = job.snapshot();
    if (result === undefined) {
      const code = isFinal(state) ? "no_result" : "not_ready";
      throw new HttpError(isFinal(state) ? 404 : 409, code, `The job has no picture: it is ${state}`, {
        headers: { "x-should-retry": "false" },
      });
    }
    const headers = { etag: `"${result.sha256}"`, "cache-control": "private, max-age=31536000, immutable" };
    return picture(await job.content(), result.type, headers);
  });
  app.get("/v1/jobs/:id/inputs/:number{[0-9]{1,3}}", async (c) =>
    sent(await server.input(jobOf(c), Number(c.req.param("number")))),
  );
  app.get("/v1/jobs/:id/mask", async (c) => sent(await server.input(jobOf(c), "mask")));
  app.get("/v1/status", (c) =>
    c.json({
      ...{ version, phase: server.phase, device: server.device, elsewhere: [...server.library.elsewhere] },
      ...server.load(),
      limits: server.limits,
      jobs: server
        .jobs()
        .map((job) => job.snapshot())
        .filter(({ state }) => state === "running")
        .map(({ id, stage, step, steps, eta }) => ({ id, stage, step, steps, eta })),
      sessions: server.service
        .sessions()
        .map(({ network, name, bytes, isInUse }) => ({ network, name, bytes, is_in_use: isInUse })),
    }),
  );
  return app;
}

/** The JSON of a job, with the texts of its error as `write` gives them. */
function shownJob(job: JobSnapshot, write: WriteText): object {
  if (job.error === undefined) return job;
  const { message, hint, ...rest } = job.error;
  return {
    ...job,
    error: {
      ...rest,
      message: write(message),
      hint: hint === undefined ? undefined : write(hint),
    },
  };
}

// A picture of a client must not be shown as a page of ours.
function sent(bytes: Uint8Array | undefined): Response {
  if (bytes === undefined) throw new HttpError(404, "not_found", "The job has no such picture");
  return picture(bytes, pictureType(bytes), { "cache-control": "private, max-age=31536000, immutable" });
}

function picture(bytes: Uint8Array, type: string, headers: Record<string, string>): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: {
      "content-type": type,
      "content-length": String(bytes.length),
      "content-security-policy": "default-src 'none'; sandbox",
      ...headers,
    },
  });
}

// By its first bytes; only formats that browsers show as pictures.
function pictureType(bytes: Uint8Array): string {
  const start = Buffer.from(bytes.subarray(0, 12)).toString("latin1");
  if (start.startsWith("\x89PNG")) return "image/png";
  if (start.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (start.startsWith("GIF8")) return "image/gif";
  if (start.startsWith("RIFF") && start.endsWith("WEBP")) return "image/webp";
  if (start.slice(4, 8) === "ftyp" && start.endsWith("avif")) return "image/avif";
  return "application/octet-stream";
}

function eventsOf(job: ServerJob, write: WriteText): Response {
  return eventStream((sink) => {
    const stop = job.subscribe((event) => {
      if (event.kind === "state") {
        sink.send("state", shownJob(event.job, write));
        if (isFinal(event.job.state)) sink.close();
      } else if (event.kind === "progress") sink.send("progress", shownProgress(event.event, write));
      else
        void encodePicture(event.image, { format: "jpeg" })
          .then((bytes) => {
            const b64 = Buffer.from(bytes).toString("base64");
            sink.send("preview", { step: event.step, type: "image/jpeg", b64_json: b64 });
          })
          .catch(() => {});
    });
    sink.signal.addEventListener("abort", stop);
  });
}

// As `--events` writes them.
function shownProgress({ kind, ...rest }: ProgressEvent, write: WriteText): object {
  const written = JSON.stringify({ event: kind, ...rest });
  return JSON.parse(written, (_, value: unknown) => (typeof value === "string" ? write(value) : value)) as object;
}

/** The edit that a request asks for, and whether previews are wanted. */
async function readJob(
  c: Context<HttpEnv>,
  limits: ServerLimits,
): Promise<{ request: EditRequest; hasPreviews: boolean }> {
  const body = await readBody(c, limits);
  // This user's own calls give the names that an edit in their process would have.
  const nameOf = c.env.isLocalSocket === true ? (name: string) => name : fileName;
  const { previews = false, ...request } = "json" in body ? ofJson(body.json, nameOf) : ofForm(body.parts);
  return { request, hasPreviews: previews };
}

type ReadRequest = EditRequest & { readonly previews?: boolean };

function ofForm(parts: readonly FormPart[]): ReadRequest {
  const sent: FilePart[] = [];
  const masks: FilePart[] = [];
  const texts = new Map<string, string[]>();
  for (const { name, value } of parts) {
    if (typeof value === "string") texts.set(bare(name), [...(texts.get(bare(name)) ?? []), value]);
    else if (IMAGE_PART.test(name)) sent.push({ name, value });
    else if (name === "mask") masks.push({ name, value });
    else
      throw new QeditError("QEDIT_E_USAGE", `Cannot take a file as "${bare(name)}"`, {
        hint: 'Pictures are sent as "image", a mask as "mask"',
      });
  }
  const previews = texts.get("previews");
  texts.delete("previews");
  const parameters = Object.fromEntries([...texts].map(([name, values]) => [name, parameterOfText(name, values)]));
  const mask = onlyOne(masks)?.value;
  const pictures = inOrder(sent).map(({ value }) => value);
  return {
    pictures,
    mask,
    parameters,
    ...(previews && { previews: previewsOf(jsonOfTexts("previews", PREVIEWS, previews)) }),
  };
}

function bare(name: string): string {
  return name.slice(0, 100).replace(/\[\]$/, "");
}

function ofJson(
  { images, mask, previews, ...parameters }: Readonly<Record<string, unknown>>,
  nameOf: (given: string) => string,
): ReadRequest {
  if (images !== undefined && !Array.isArray(images))
    throw new QeditError("QEDIT_E_USAGE", 'Cannot use "images": a list is wanted', { parameter: "images" });
  const pictures = ((images ?? []) as readonly unknown[]).map((image, index) =>
    namedBytes(image, `images[${index}]`, nameOf),
  );
  return {
    pictures,
    mask: mask === undefined || mask === null ? undefined : namedBytes(mask, "mask", nameOf),
    parameters,
    ...(previews !== undefined && { previews: previewsOf(previews) }),
  };
}

function previewsOf(value: unknown): boolean {
  return readValue("previews", PREVIEWS, value);
}

function namedBytes(value: unknown, parameter: string, nameOf: (given: string) => string): NamedBytes {
  if (!isObject(value) || typeof value["data"] !== "string" || !["string", "undefined"].includes(typeof value["name"]))
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use "${parameter}": {"name", "data"} with the file in base64 is wanted`,
      {
        parameter,
      },
    );
  const name = nameOf((value["name"] as string | undefined) ?? namelessOf(parameter));
  return { name, bytes: fromBase64(value["data"], parameter) };
}
