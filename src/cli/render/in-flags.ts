// Replaces marked parameters in texts by their flags.
import { type Failure, spelled } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import { asFlag } from "../io.js";

/** The event with flags where its texts name parameters. */
export function inFlags(event: ProgressEvent): ProgressEvent {
  if (event.kind === "plan") return { ...event, lines: event.lines.map((line) => spelled(line, asFlag)) };
  if (event.kind === "job" && event.error) return { ...event, error: failureInFlags(event.error) };
  return "text" in event ? { ...event, text: spelled(event.text, asFlag) } : event;
}

/** Plain data with flags where its texts name parameters. */
export function dataInFlags<T>(data: T): T {
  if (typeof data === "string") return spelled(data, asFlag) as T;
  if (Array.isArray(data)) return data.map(dataInFlags) as T;
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, dataInFlags(value)])) as T;
}

/** The failure with flags where its texts name parameters. */
export function failureInFlags<F extends Omit<Failure, "code">>(failure: F): F {
  const { message, hint } = failure;
  return {
    ...failure,
    message: spelled(message, asFlag),
    hint: hint === undefined ? undefined : spelled(hint, asFlag),
  };
}
