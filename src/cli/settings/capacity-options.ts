// Options of `qedit plan --replicas`.
import * as v from "valibot";
import { defaulted, optional, type SettingsOf } from "../../edit/parameters/parameter.js";
import { duration, type Kind, number, toggle } from "../../edit/parameters/parameter-kinds.js";
import { STAGES, type StageName } from "../../stages/stage.js";

const SECONDS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600, day: 86_400 };
const RATE = /^(\d+(?:\.\d+)?)\s*\/\s*(s|min|h|day)$/;

/** Edits a second: 2/s, 120/min, 5000/h, 20000/day. */
const rate: Kind<number> = {
  schema: v.pipe(
    v.unknown(),
    v.transform((written) => {
      const [, count, unit] = RATE.exec(String(written).trim()) ?? [];
      return count === undefined ? Number.NaN : Number(count) / SECONDS[unit!]!;
    }),
    v.number(),
    v.finite(),
    v.check((edits) => edits > 0),
  ),
  wanted: "a rate such as 2/s, 120/min, 5000/h or 20000/day",
};

/** Seconds of a whole edit, or of each stage. */
export type EditSeconds = number | Readonly<Record<StageName, number>>;

const NUMBER = /^(\d+(?:\.\d+)?)s?$/;

/** 12, or encode-image=0.2,encode-prompt=0.5,sample=11,decode=0.4. */
const editSeconds: Kind<EditSeconds> = {
  schema: v.pipe(
    v.unknown(),
    v.transform((written) => secondsOf(String(written).trim())),
    v.custom<EditSeconds>((seconds) => seconds !== undefined),
  ),
  wanted: `seconds above 0, such as 12, or of each stage, such as ${STAGES.map((stage, index) => `${stage}=${[0.2, 0.5, 11, 0.4][index]}`).join(",")},`,
};

function secondsOf(written: string): EditSeconds | undefined {
  const positive = (digits: string | undefined) => {
    const value = Number(NUMBER.exec(digits ?? "")?.[1] ?? Number.NaN);
    return Number.isFinite(value) && value > 0 ? value : undefined;
  };
  if (!written.includes("=")) return positive(written);
  const pairs = written.split(",").map((pair) => pair.split("=") as [string, ...string[]]);
  const known = new Map(
    pairs.map(([stage, digits, ...more]) => [stage.trim(), more.length > 0 ? undefined : positive(digits?.trim())]),
  );
  const isWhole = pairs.length === STAGES.length && STAGES.every((stage) => known.get(stage) !== undefined);
  return isWhole ? (Object.fromEntries(known) as unknown as Record<StageName, number>) : undefined;
}

/** The options, none of which has an effect without the first. */
export const capacityOptions = {
  replicas: defaulted(toggle, false, {
    summary: "plan machines instead: how many a rate takes, and their partitions, autoscalers, store and volume",
    group: "Server",
    scope: "call",
  }),
  rate: optional(rate, {
    summary: "edits that come: 2/s, 120/min, 5000/h, 20000/day",
    group: "Server",
    scope: "call",
    placeholder: "<edits>",
  }),
  seconds: optional(editSeconds, {
    summary:
      "seconds of an edit on one GPU whose model is open: 12; or of each stage, on the device that it has: STAGE=SECONDS,…",
    group: "Server",
    scope: "call",
    placeholder: "<seconds>",
    initialText: "as earlier runs on this machine went",
  }),
  perStage: defaulted(toggle, false, {
    summary: "machines for each stage, as in overlays/per-stage, instead of such as do whole edits",
    group: "Server",
    scope: "call",
  }),
  utilization: defaulted(number({ minimum: 0.05, maximum: 0.99 }), 0.8, {
    summary: "share of its time that a GPU may be busy",
    group: "Server",
    scope: "call",
    placeholder: "<share>",
  }),
  wait: defaulted(duration, 60_000, {
    summary: "how long 95 % of the edits may wait before they are begun: 30s, 5m",
    group: "Server",
    scope: "call",
    placeholder: "<duration>",
    initialText: "1m",
  }),
  burst: defaulted(number({ minimum: 0, maximum: 1_000_000, whole: true }), 0, {
    summary: "edits that may come at once beside the rate, to be begun within that wait",
    group: "Server",
    scope: "call",
    placeholder: "<edits>",
  }),
  startTime: optional(duration, {
    summary: "how long a replica takes until it is ready: 90s, 5m",
    group: "Server",
    scope: "call",
    placeholder: "<duration>",
    initialText: "as opening went on this machine",
  }),
};

/** Their values. */
export type CapacitySettings = SettingsOf<typeof capacityOptions>;
