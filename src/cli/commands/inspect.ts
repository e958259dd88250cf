// qedit inspect: identifies files and shows how they were made.
import {
  type Inspected,
  type InspectedCheckpoint,
  type InspectedPicture,
  inspectBytes,
  inspectFile,
} from "../../edit/inspect-file.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { defineCommand } from "../command.js";
import { checkInputs, inputSources } from "../files/input.js";
import { makerLine, recipeLines } from "../render/recipe-lines.js";
import { shown } from "../render/shown.js";
import { identityText } from "./models/model-options.js";

/** Longer metadata values are truncated, except with --json. */
const SHOWN_METADATA = 100;

/** `qedit inspect out.png`. */
export const inspect = defineCommand({
  description: "Show what a picture, tensor file or model file is, and how it was made",
  examples: [
    "qedit inspect out.png",
    "qedit inspect latents.safetensors",
    "qedit inspect ~/ComfyUI/models/loras/*.safetensors",
    "qedit inspect out.png --json",
  ],
  positionals: [
    ["<file...>", "pictures, tensor files, model files, folders of weights; - is a picture or tensor file from stdin"],
  ],
  options: {},
  async perform({ args }, terminal) {
    const found: Inspected[] = [];
    const failures: unknown[] = [];
    checkInputs(args, terminal.io);
    for (const source of await inputSources(args, terminal.io))
      await (typeof source === "string" ? inspectFile(source) : inspectBytes(source)).then(
        (each) => found.push(each),
        (error: unknown) => failures.push(error),
      );
    const { bold } = terminal.style;
    const lines = found.flatMap((each, index) => [
      ...(index > 0 ? [""] : []),
      bold(each.file),
      ...linesOf(each).map((line) => `  ${shown(line)}`),
    ]);
    if (found.length > 0) terminal.result(args.length === 1 ? found[0]! : found, lines);
    for (const error of failures.slice(0, -1))
      terminal.emit({ kind: "warning", text: error instanceof Error ? error.message : String(error) });
    if (failures.length > 0) throw failures.at(-1);
  },
});

function linesOf(file: Inspected): string[] {
  if (file.kind === "picture") return pictureLines(file);
  if (file.kind === "checkpoint") return checkpointLines(file);
  const tensors = Object.entries(file.tensors).map(([name, form]) => `tensor ${name}: ${form}`);
  return [
    `${file.artifact} of qedit, version ${file.version}, ${decimalSize(file.bytes)}`,
    ...tensors,
    ...(file.recipe ? recipeLines(file.recipe) : []),
  ];
}

function pictureLines({ format, width, height, bytes, recipe, tools, texts }: InspectedPicture): string[] {
  const head = `${format} picture, ${width}x${height}, ${decimalSize(bytes)}`;
  if (recipe) return [head, makerLine(recipe), ...recipeLines(recipe)];
  const others =
    tools.length > 0 ? `no recipe of qedit, but one of ${tools.join(" and ")} (${texts.join(", ")})` : "no recipe";
  return [head, others];
}

function checkpointLines({ what, bytes, identity, tensors, types, metadata }: InspectedCheckpoint): string[] {
  const counts = Object.entries(types).map(
    ([type, count]) => `${type} ${count.tensors} (${count.parameters.toLocaleString("en-US")} elements)`,
  );
  const entries = Object.entries(metadata).map(([key, value]) => `metadata ${key}: ${shown(value, SHOWN_METADATA)}`);
  return [
    identityText(what),
    `${decimalSize(bytes)}, ${tensors} tensors: ${counts.join(", ")}`,
    `identity ${identity}`,
    ...entries,
  ];
}
