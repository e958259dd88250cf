// Formats a drift as text and as a JSON record.
import type { Drift } from "../../image/compare/drift.js";

/** Smallest zoom (percent) and shift (pixels) in the text; less is within the error of the measurement. */
const SMALLEST_SHOWN = { zoom: 0.05, pixels: 0.25 };

/** One line: `drift: 0.3 % zoom, 2.1 px right`. */
export function driftText(drift: Drift | undefined): string {
  if (drift === undefined) return "drift: cannot tell, the result has too little in common with picture 1";
  const zoom = (drift.zoom - 1) * 100;
  const parts = [
    ...(Math.abs(zoom) >= SMALLEST_SHOWN.zoom
      ? [`${Math.abs(zoom).toFixed(zoom ** 2 < 1 ? 2 : 1)} % ${zoom > 0 ? "zoom" : "shrink"}`]
      : []),
    ...shift(drift.x, "right", "left"),
    ...shift(drift.y, "down", "up"),
  ];
  return `drift: ${parts.length === 0 ? "none" : parts.join(", ")}`;
}

/** The record for --json, rounded to the precision of the measurement; null if the drift could not be measured. */
export function driftRecord(drift: Drift | undefined): object | null {
  if (drift === undefined) return null;
  return {
    zoom: round(drift.zoom, 5),
    right: round(drift.x, 2),
    down: round(drift.y, 2),
    agreement: round(drift.agreement, 2),
  };
}

function shift(pixels: number, ahead: string, back: string): string[] {
  return Math.abs(pixels) < SMALLEST_SHOWN.pixels
    ? []
    : [`${Math.abs(pixels).toFixed(1)} px ${pixels > 0 ? ahead : back}`];
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
