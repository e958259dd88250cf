// Options and text that the subcommands of `qedit models` share.

import type { Identity } from "../../../catalog/local/identify.js";
import { defaulted } from "../../../edit/parameters/parameter.js";
import { texts, toggle } from "../../../edit/parameters/parameter-kinds.js";
import { decimalSize } from "../../../std/byte-sizes.js";

/** --models-dir: folders to search first. */
export const modelsDir = defaulted(texts, [], {
  summary: "look here first, as a ComfyUI folder or any other; repeatable",
  group: "Models",
  placeholder: "<folder>",
});

/** --yes: answers yes to every question. */
export const yes = defaulted(toggle, false, { summary: "do not ask", group: "Output", scope: "call", short: "y" });

/** --dry-run: changes nothing. */
export const dryRun = defaulted(toggle, false, {
  summary: "say what would be done, and do nothing",
  group: "Output",
  scope: "call",
  short: "n",
});

/** Pads columns of text to a table; the last column is not padded. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!))).join("  "),
  );
}

/** A file's identity in one line: `Qwen2.5-VL text encoder, 28 layers of 3584; fp8, scaled`. */
export function identityText({ network, dtype, dtypes, isScaled, format, lora, hasVision, notes }: Identity): string {
  const types: Readonly<Record<string, string>> = {
    F8_E4M3: "fp8 e4m3",
    F8_E5M2: "fp8 e5m2",
    BF16: "bf16",
    F16: "fp16",
    F32: "fp32",
    I8: "int8",
  };
  const type = format ?? `${types[dtype] ?? dtype}${isScaled ? " scaled" : ""}`;
  const stored = `${type}${dtypes.length > 1 ? " (mixed)" : ""}`;
  const details = [
    network,
    ...(lora ? [`${ranksText(lora.ranks)}${lora.modules} modules, layout ${lora.layout}`] : []),
    stored,
    ...(hasVision === undefined ? [] : [hasVision ? "with vision" : "without vision"]),
  ];
  return [details.join(", "), ...notes].join("; ");
}

// Adapters that are no pairs of matrices have no rank.
function ranksText(ranks: readonly number[]): string {
  return ranks.length === 0 ? "" : `rank ${ranks.join(", ")}, `;
}

/** A size in bytes as text: rounded, with the exact number in parentheses. */
export function exactBytes(bytes: number): string {
  return `${decimalSize(bytes)} (${bytes.toLocaleString("en-GB")} bytes)`;
}
