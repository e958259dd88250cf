// The progress of an edit as a share that only grows: each stage has a part of it.
import { spelled } from "../../std/errors.js";
import type { JobEvent } from "../job-types.js";
import { asArgument, type ToolCall } from "./tool.js";

/** Where each stage begins, in percent; sampling takes most of an edit. */
const BEGIN: Readonly<Record<string, number>> = { "encode-image": 1, "encode-prompt": 5, sample: 10, decode: 95 };
/** Where steps begin and end, in percent. */
const [FIRST_STEP, LAST_STEP] = [11, 94.9];
/** What is done within a stage moves the share a little. */
const ACTIVITY = 0.1;
const MOST_ACTIVITY = 0.9;

/** Reports the events of a job. */
export function editProgress(report: ToolCall["progress"]): (event: JobEvent) => void {
  let last = 0;
  let end = 1;
  const say = (share: number, message: string) => {
    // Of ten thousand steps each is still a step.
    const rounded = Number(share.toFixed(4));
    if (rounded <= last) return;
    last = rounded;
    report(rounded, spelled(message, asArgument));
  };
  return (event) => {
    if (event.kind === "state" && event.job.state === "queued" && (event.job.position ?? 0) > 1)
      say(Math.min(last + ACTIVITY / 10, 1), `waiting: ${event.job.position! - 1} before it`);
    if (event.kind !== "progress") return;
    const { event: inner } = event;
    if (inner.kind === "start") {
      const begin = BEGIN[inner.stage] ?? last;
      end = Math.max(begin, last) + MOST_ACTIVITY;
      say(begin, inner.stage);
    } else if (inner.kind === "activity") {
      if (last + ACTIVITY < end) say(last + ACTIVITY, inner.text);
    } else if (inner.kind === "step" && inner.step > 0)
      say(FIRST_STEP + ((LAST_STEP - FIRST_STEP) * inner.step) / inner.total, `sample ${inner.step}/${inner.total}`);
  };
}
