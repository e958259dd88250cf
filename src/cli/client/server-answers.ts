// What a server answers, checked field by field: it is not trusted.
import * as v from "valibot";
import { toRecipe } from "../../artifacts/recipe.js";
import { ERROR_CODES, type ErrorCode } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const seconds = v.pipe(v.number(), v.finite(), v.minValue(0));
const seed = v.pipe(v.string(), v.regex(/^\d{1,20}$/));

/** Ids of jobs, which stand in paths. */
const jobId = v.pipe(v.string(), v.regex(/^[\w-]{1,100}$/));

const failure = v.object({
  code: v.fallback(v.picklist(ERROR_CODES), "QEDIT_E_INTERNAL"),
  message: v.string(),
  hint: v.optional(v.nullable(v.string())),
});

const result = v.object({
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  type: v.string(),
  bytes: count,
  width: count,
  height: count,
  seed,
  drift: v.nullable(v.record(v.string(), v.number())),
  device: v.string(),
  seconds: v.record(v.string(), seconds),
  recipe: v.pipe(
    v.unknown(),
    v.transform(toRecipe),
    v.check((recipe) => recipe !== undefined),
    v.transform((recipe) => recipe!),
  ),
});

/** A job; `result` stands in every completed one. */
export const jobAnswer = v.pipe(
  v.object({
    id: jobId,
    state: v.picklist(["queued", "running", "completed", "failed", "cancelled"]),
    position: v.optional(count),
    stage: v.optional(v.string()),
    step: v.optional(count),
    steps: v.optional(count),
    eta: v.optional(seconds),
    result: v.optional(result),
    error: v.optional(failure),
  }),
  v.check(({ state, result }) => state !== "completed" || result !== undefined),
);

/** A job as the server knows it. */
export type JobAnswer = v.InferOutput<typeof jobAnswer>;

/** Its result. */
export type ResultAnswer = v.InferOutput<typeof result>;

/** The version of a server. */
export const versionAnswer = v.object({ version: v.string() });

/** The state of a server of this version. */
export const statusAnswer = v.object({
  version: v.string(),
  phase: v.picklist(["starting", "ready", "draining"]),
  device: v.string(),
  /** Its stages that run on other machines. */
  elsewhere: v.optional(v.array(v.string()), []),
  queued: count,
  running: count,
  limits: v.object({
    queue: count,
    body: count,
    pictures: count,
    pictureMegapixels: v.number(),
    megapixels: v.number(),
    steps: count,
    prompt: count,
  }),
  jobs: v.array(
    v.object({
      id: jobId,
      stage: v.optional(v.string()),
      step: v.optional(count),
      steps: v.optional(count),
      eta: v.optional(seconds),
    }),
  ),
  sessions: v.array(v.object({ network: v.string(), name: v.string(), bytes: v.number(), is_in_use: v.boolean() })),
});

/** What a server says of itself. */
export type StatusAnswer = v.InferOutput<typeof statusAnswer>;

/** The models of a server. */
export const modelsAnswer = v.object({
  data: v.array(v.object({ id: v.string(), is_default: v.boolean() })),
});

/** A model that was opened. */
export const loadedAnswer = v.object({ model: v.string(), seconds });

/** Networks that were closed. */
export const unloadedAnswer = v.object({ closed: count, bytes: v.number(), open: count });

/** A server that stops. */
export const stoppingAnswer = v.object({ pid: v.pipe(count, v.minValue(1)), queued: count, running: count });

/** A refusal. */
export const errorAnswer = v.object({
  error: v.object({
    message: v.string(),
    code: v.string(),
    qedit_code: v.nullable(v.fallback(v.picklist(ERROR_CODES), "QEDIT_E_INTERNAL" satisfies ErrorCode)),
    hint: v.nullable(v.string()),
  }),
});

/** A preview. */
export const previewAnswer = v.object({ b64_json: v.string() });

const text = v.string();
const optionalNumber = v.optional(v.number());
const EVENTS = v.variant("kind", [
  v.object({ kind: v.literal("plan"), lines: v.array(text) }),
  v.object({
    kind: v.literal("note"),
    text,
    evaluations: v.optional(v.object({ whole: count, reused: count })),
  }),
  v.object({ kind: v.picklist(["warning", "detail", "activity"]), text }),
  v.object({ kind: v.literal("start"), stage: text }),
  v.object({ kind: v.literal("step"), step: count, total: count, seconds }),
  v.object({ kind: v.literal("end"), stage: text, seconds }),
  v.object({ kind: v.literal("drift"), zoom: optionalNumber, right: optionalNumber, down: optionalNumber, text }),
  v.object({
    kind: v.literal("session"),
    action: v.picklist(["opened", "closed"]),
    network: text,
    name: text,
    seconds,
  }),
  v.object({ kind: v.literal("cache"), action: v.picklist(["hit", "stored"]), stage: text, key: text }),
]);

/** An event of a job, which has its kind under `event`. Throws valibot's error. */
export const progressAnswer = v.pipe(
  v.looseObject({ event: v.string() }),
  v.transform(({ event, ...rest }) => ({ ...rest, kind: event })),
  EVENTS,
  v.transform((event) => event as ProgressEvent),
);
