// How a picture was made, as rows for its reader.
import type { Job } from "./page-wire.js";

/** A name and a value. */
export type Fact = readonly [name: string, value: string];

/** What is worth knowing of a completed job. */
export function factsOf({ parameters, inputs, mask, result }: Job): readonly Fact[] {
  if (result === undefined) return [];
  const sample = settingsOf(result.recipe, "sample");
  const known = (value: unknown) =>
    typeof value === "string" || typeof value === "number" ? String(value) : undefined;
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["Pictures", inputs.map(({ name }) => name).join(", ")],
    ["Mask", mask?.name],
    ["Model", known(parameters["model"])],
    ["Seed", result.seed],
    ["Steps", known(sample["steps"])],
    ["Guidance", known(sample["cfg"])],
    ["Size", `${result.width} x ${result.height}`],
    ["Drift", driftText(result.drift)],
    ["Device", result.device],
    ["Time", timeText(result.seconds)],
  ];
  return facts.flatMap(([name, value]) => (value === undefined || value === "" ? [] : [[name, value] as const]));
}

function settingsOf(recipe: object, stage: string): Readonly<Record<string, unknown>> {
  const { settings } = recipe as { readonly settings?: Readonly<Record<string, unknown>> };
  const found = settings?.[stage];
  return typeof found === "object" && found !== null ? (found as Readonly<Record<string, unknown>>) : {};
}

/** Smallest zoom in percent and shift in pixels that are said: less is within the error of the measurement. */
const SMALLEST = { zoom: 0.05, pixels: 0.25 };

function driftText(drift: NonNullable<Job["result"]>["drift"]): string {
  if (drift === null) return "cannot tell";
  const zoom = (drift.zoom - 1) * 100;
  const parts = [
    ...(Math.abs(zoom) >= SMALLEST.zoom ? [`${Math.abs(zoom).toFixed(2)} % ${zoom > 0 ? "larger" : "smaller"}`] : []),
    ...shift(drift.right, "right", "left"),
    ...shift(drift.down, "down", "up"),
  ];
  return parts.join(", ") || "none";
}

function shift(pixels: number, ahead: string, back: string): string[] {
  if (Math.abs(pixels) < SMALLEST.pixels) return [];
  return [`${Math.abs(pixels).toFixed(1)} px ${pixels > 0 ? ahead : back}`];
}

function timeText(seconds: Readonly<Record<string, number>>): string {
  const sum = Object.values(seconds).reduce((total, each) => total + each, 0);
  return sum < 90 ? `${sum.toFixed(1)} s` : `${(sum / 60).toFixed(1)} min`;
}
