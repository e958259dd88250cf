// Events of a server as our own: what it says is cleaned, and of its stages only what this machine does not say itself.
import type { Emit, ProgressEvent } from "../../std/events.js";
import { shown } from "../../std/foreign-text.js";

/** Characters of a text, and lines of a plan. */
const LONGEST_TEXT = 1000;
const MOST_LINES = 100;

type Fields = Readonly<Record<string, unknown>>;

// undefined for one that means nothing here. Starts and ends of stages only where `hasStages`.
function remoteEvent(fields: Fields, { hasStages }: { readonly hasStages: boolean }): ProgressEvent | undefined {
  const { event, text, stage, seconds = 0 } = fields;
  switch (event) {
    case "note":
    case "warning":
    case "activity":
      return typeof text === "string" ? { kind: event, text: shown(text, LONGEST_TEXT) } : undefined;
    case "plan":
      return planOf(fields["lines"]);
    case "step":
      return stepOf(fields);
    case "start":
      return hasStages && typeof stage === "string" ? { kind: event, stage: shown(stage) } : undefined;
    case "end":
      return hasStages && typeof stage === "string" && isTime(seconds)
        ? { kind: event, stage: shown(stage), seconds }
        : undefined;
    default:
      return undefined;
  }
}

/** Emits a server's events. */
export function remoteProgress(emit: Emit, options: { readonly hasStages: boolean }): (fields: Fields) => void {
  return (fields) => {
    const event = remoteEvent(fields, options);
    if (event !== undefined) emit(event);
  };
}

// Lists come as JSON.
function planOf(lines: unknown): ProgressEvent | undefined {
  if (typeof lines !== "string") return undefined;
  try {
    const read: unknown = JSON.parse(lines);
    if (!Array.isArray(read)) return undefined;
    const texts = read.filter((line) => typeof line === "string").slice(0, MOST_LINES);
    return { kind: "plan", lines: texts.map((line) => shown(line, LONGEST_TEXT)) };
  } catch {
    return undefined;
  }
}

function stepOf({ step, total, seconds = 0 }: Fields): ProgressEvent | undefined {
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isCount(step) || !isCount(total) || step > total || !isTime(seconds)) return undefined;
  return { kind: "step", step, total, seconds };
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
