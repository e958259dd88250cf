// Shows events on stderr: on a terminal a spinner for stages and a progress bar for steps, below a preview where it shows pictures; elsewhere only lines.

import type { Emit, ProgressEvent } from "../../std/events.js";
import type { Output } from "../io.js";
import { pictureAbove } from "./graphics/picture-above.js";
import type { TerminalPicture } from "./graphics/terminal-picture.js";
import { movingLine } from "./moving-line.js";
import { printableLine } from "./shown.js";
import { hasMotion, type Style, type StyleChoice, styleFor } from "./style.js";

/** How much is shown: nothing; warnings and failures; notes; everything. */
export type Level = "silent" | "quiet" | "normal" | "verbose";

/** Shows events. */
export interface Renderer {
  readonly emit: Emit;
  /** Draws a preview above the bar, in place of the one before, while it samples; undefined where nothing moves. */
  readonly draw?: (picture: TerminalPicture) => void;
  /** Clears the preview, the spinner and the bar before other output; the next event shows them again. */
  readonly pause: () => void;
  /** Removes the preview, the spinner and the bar. */
  readonly close: () => void;
}

/** Options of a renderer. */
interface RendererOptions {
  readonly level: Level;
  readonly choice: StyleChoice;
  readonly stderr: Output;
}

/** Opens a renderer, animated if stderr is a terminal. */
export async function openRenderer({ level, choice, stderr }: RendererOptions): Promise<Renderer> {
  const style = styleFor(stderr, choice);
  const write = (line: string) => stderr.write(`${printableLine(line, style)}\n`);
  let isJob = false;
  const lines = (event: ProgressEvent) => {
    if (event.kind === "job") isJob = event.state === "started";
    return linesOf(event, { level, style, isJob });
  };
  if (level === "normal" || level === "verbose") {
    if (hasMotion(stderr, choice)) return animatedRenderer({ write, lines, style, stderr });
  }
  return { emit: (event) => lines(event).forEach(write), pause() {}, close() {} };
}

// The lines of an event that are printed on any stream.
function linesOf(
  event: ProgressEvent,
  { level, style, isJob }: { level: Level; style: Style; isJob: boolean },
): readonly string[] {
  if (level === "silent") return [];
  if (event.kind === "warning") return [`${style.yellow("warning:")} ${event.text}`];
  if (event.kind === "job" && event.state === "failed")
    return [`${style.red("failed:")} ${event.job}${event.error ? `: ${event.error.message}` : ""}`];
  if (level === "quiet") return [];
  if (event.kind === "plan") return event.lines;
  if (event.kind === "note" || event.kind === "drift") return [event.text];
  // Cache hits are frequent among jobs of a batch: not shown.
  if (event.kind === "cache" && event.action === "hit" && (!isJob || level === "verbose"))
    return [`${event.stage}: taken from the cache`];
  if (level === "normal") return [];
  if (event.kind === "detail") return [style.dim(event.text)];
  if (event.kind === "session")
    return [
      style.dim(
        `${event.name}: session ${event.action}${event.action === "opened" ? ` in ${event.seconds.toFixed(2)} s` : ""}`,
      ),
    ];
  if (event.kind === "end")
    return [
      style.dim(`${event.stage}: ${event.seconds.toFixed(2)} s, ${megabytes(process.memoryUsage.rss())} MB resident`),
    ];
  return [];
}

interface Screen {
  readonly write: (line: string) => void;
  readonly lines: (event: ProgressEvent) => readonly string[];
  readonly style: Style;
  readonly stderr: Output;
}

async function animatedRenderer({ write, lines, style, stderr }: Screen): Promise<Renderer> {
  const line = await movingLine(style, stderr);
  const preview = pictureAbove(line, stderr);
  const pause = () => {
    line.clear();
    preview.erase();
  };
  let job = "";
  return {
    pause,
    close() {
      pause();
      preview.end();
    },
    draw: preview.draw,
    emit(event) {
      const text = lines(event);
      if (text.length > 0) pause();
      text.forEach(write);
      if (event.kind === "job") job = event.state === "started" ? `${event.index}/${event.total} ${event.job}` : "";
      const spin = (text: string) => line.spin(job === "" ? text : `${job} · ${text}`);
      if (event.kind === "start") spin(event.stage);
      else if (event.kind === "activity") spin(event.text);
      else if (event.kind === "step") line.bar(event.total, event.step, stepPayload(event));
      else if (event.kind === "transfer") transfer(event, { bar: line.bar, spin });
      else if (event.kind === "end") {
        pause();
        // With many jobs, stages are not listed.
        if (job === "") write(`${style.green("✔")} ${event.stage} ${event.seconds.toFixed(1)} s`);
      }
      if (event.kind === "step") preview.begin();
      else if (event.kind === "start" || event.kind === "end") preview.refuse();
    },
  };
}

function stepPayload({ step, total, seconds }: Extract<ProgressEvent, { kind: "step" }>): object {
  const known = step > 0;
  return {
    what: "sample",
    share: `${step}/${total}`,
    rate: known ? `${seconds.toFixed(2)} s/step` : "–",
    left: known ? duration(seconds * (total - step)) : "–",
  };
}

function transfer(
  event: Extract<ProgressEvent, { kind: "transfer" }>,
  { bar, spin }: { bar: (total: number, value: number, payload: object) => void; spin: (text: string) => void },
): void {
  const { name, bytes, total, bytesPerSecond } = event;
  const rate = `${megabytes(bytesPerSecond)} MB/s`;
  if (total === undefined) {
    spin(`${name} ${megabytes(bytes)} MB · ${rate}`);
    return;
  }
  bar(total, bytes, {
    what: printableLine(name),
    share: `${megabytes(bytes)}/${megabytes(total)} MB`,
    rate,
    left: bytesPerSecond > 0 ? duration((total - bytes) / bytesPerSecond) : "–",
  });
}

function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${(seconds % 60).toFixed(0)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
