// Formats a plan as text.

import type { EditPlan } from "../../edit/plan/edit-plan.js";
import type { MemoryNeed } from "../../edit/plan/fit.js";
import type { StagePlan } from "../../edit/plan/stage-plan.js";
import type { Size } from "../../image/image.js";
import { enlargement } from "../../image/resize/describe-plan.js";
import { networkName } from "../../models/network-id.js";
import { binarySize } from "../../std/byte-sizes.js";
import type { Style } from "./style.js";

/** The lines of a plan. */
export function planLines(plan: EditPlan, { bold, yellow, dim }: Pick<Style, "bold" | "yellow" | "dim">): string[] {
  const section = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : ["", bold(title), ...lines.map((line) => `  ${line}`)];
  const warnings = [
    ...problems(plan),
    ...plan.advice.map(({ change, text }) => (change === undefined ? text : `${change} ${text}`)),
  ];
  return [
    summary(plan),
    ...section("Sizes", sizeLines(plan)),
    ...whyLines(plan).map((line) => `  ${dim(line)}`),
    ...section("Tokens", tokenLines(plan)),
    ...section("Stages", stageLines(plan)),
    ...section("Files", fileLines(plan)),
    ...section("Memory", memoryLines(plan)),
    ...section("Time", timeLines(plan)),
    ...section(
      "To do",
      warnings.map((line) => yellow(line)),
    ),
  ];
}

function summary({ results, sizes, sampling, device, stages }: EditPlan): string {
  const { pictures, output } = sizes;
  const { steps, cfg, evaluations, sampler, stepCache } = sampling;
  const passes = evaluations.positive + evaluations.negative;
  const where =
    stages.length === 0
      ? "other machines"
      : device.name === "cpu"
        ? `the CPU${device.threads === undefined ? "" : ` with ${counted(device.threads, "thread")}`}`
        : device.name;
  const reason = device.reason === undefined || stages.length === 0 ? "" : ` (${device.reason})`;
  const made = results === 1 ? show(output) : `${results} of ${show(output)}, each`;
  const most =
    stepCache === undefined ? "" : ` at most (step cache ${stepCache}: how many it saves is not known before)`;
  return `${counted(pictures.length, "picture")} → ${made}: ${counted(steps, "step")} of ${sampler} at cfg ${cfg}, ${counted(passes, "pass", "passes")} of the transformer${most}, on ${where}${reason}`;
}

function sizeLines({ sizes }: EditPlan): string[] {
  const rows = sizes.pictures.map(({ name, source, vision, reference }) => {
    const cut = { width: source.width - reference.box.width, height: source.height - reference.box.height };
    const crop = cut.width + cut.height > 0 ? ` less ${show(cut)}` : "";
    return [
      name,
      show(source),
      `${show(vision.size)}, ${show(vision.grid)}, ${vision.tokens}`,
      `${show(reference.size)}${crop}`,
      show(reference.latent),
      String(reference.tokens),
    ];
  });
  const { target, output } = sizes;
  const resized = enlargement(target.size, output);
  const result = ["result", "", "", `${show(output)}${resized}`, show(target.latent), String(target.tokens)];
  return table([["", "source", "vision: pixels, patches, tokens", "VAE", "latent", "tokens"], ...rows, result]);
}

function whyLines({ sizes: { pictures, target } }: EditPlan): string[] {
  return [
    `result: ${target.why}`,
    ...pictures.map(({ reference }, index) => `reference ${index + 1}: ${reference.why}`),
    ...[...new Set(pictures.map(({ vision }) => `vision: ${vision.why}`))],
  ];
}

function tokenLines({ tokens }: EditPlan): string[] {
  const { prompt, negativePrompt, target, references, total } = tokens;
  const images = references.length === 0 ? "" : ` + references ${references.join(" + ")}`;
  const ofPrompt = ({ template, vision, prompt: words, total: all, seen }: typeof prompt) =>
    `${all} = template ${template} + vision ${vision} + prompt ${words}; the transformer sees ${seen}`;
  return [
    `prompt ${ofPrompt(prompt)}`,
    ...(negativePrompt ? [`negative prompt ${ofPrompt(negativePrompt)}`] : []),
    `transformer ${total} = text ${prompt.seen} + target ${target}${images}`,
  ];
}

function stageLines({ stages, elsewhere = {}, isOneRequest, totals, device }: EditPlan): string[] {
  if (isOneRequest) return [`all in one request: on ${elsewhere.sample}`];
  const places = Object.entries(elsewhere).map(([stage, servers]) => `${stage}: on ${servers}`);
  if (stages.length === 0) return places;
  const onGpu = device.name !== "cpu";
  const heading = ["", "work", "from disk", "RAM", ...(onGpu ? ["GPU"] : ["mapped"]), "time"];
  const rows = stages.flatMap((stage) => [stageRow(stage, onGpu), ...networkRows(stage, onGpu)]);
  const all = places.length === 0 ? "all" : "all here";
  return [
    ...table([
      heading,
      ...rows,
      [all, flops(totals.flops), bytes(totals.readBytes), "", "", secondsText(totals.seconds)],
    ]),
    ...places,
  ];
}

function stageRow({ stage, flops: work, readBytes, memory, seconds: time }: StagePlan, onGpu: boolean): string[] {
  return [
    stage,
    flops(work),
    bytes(readBytes),
    bytes(memory.ram),
    bytes(onGpu ? memory.gpu : memory.mapped),
    secondsText(time),
  ];
}

// A stage with one network and one run needs no line for its network.
function networkRows({ networks }: StagePlan, onGpu: boolean): string[][] {
  return networks.flatMap(({ network, part, runs, flops: work, weightBytes, memory, seconds: time }) => {
    const passes = runs.reduce((sum, { times }) => sum + times, 0);
    if (networks.length === 1 && passes === 1) return [];
    const name = `  ${networkName(network)}${part === undefined ? "" : `, ${part}`}${passes > 1 ? ` ×${passes}` : ""}`;
    const each = passes > 1 ? ` (${[...new Set(runs.map((run) => flops(run.flops)))].join(", ")} each)` : "";
    return [
      [
        name,
        `${flops(work)}${each}`,
        bytes(weightBytes),
        bytes(memory.ram),
        bytes(onGpu ? memory.gpu : memory.mapped),
        time === undefined ? secondsText(undefined) : secondsText(time.open + time.run),
      ],
    ];
  });
}

function fileLines({ files }: EditPlan): string[] {
  return table(
    files.flatMap(({ role, path, name, bytes: size, repacked }) => [
      [ROLES[role], size === undefined ? "size unknown" : bytes(size), path ?? `${name}: not on disk`],
      ...(repacked ? [["", bytes(repacked.bytes), repackedText(repacked)]] : []),
    ]),
  );
}

function repackedText({ path, isThere }: NonNullable<EditPlan["files"][number]["repacked"]>): string {
  return isThere ? `repacked in ${path}` : `repacked by the first edit, into ${path}`;
}

const ROLES: Readonly<Record<EditPlan["files"][number]["role"], string>> = {
  vae: "VAE",
  textEncoder: "text encoder",
  transformer: "transformer",
  lora: "LoRA",
};

function memoryLines({ stages, memory: { ram, gpu, plan } }: EditPlan): string[] {
  if (stages.length === 0) return ["nothing is computed here"];
  return [
    `RAM ${needText(ram)}`,
    ...(gpu ? [`GPU ${needText(gpu)} (by arithmetic: what a GPU really took is not measured)`] : mappedLines(ram)),
    ...networkLines(plan),
  ];
}

function mappedLines(ram: MemoryNeed): string[] {
  if (ram.mapped === 0 || ram.available === undefined) return [];
  const fitsBeside = ram.mapped <= ram.available - ram.needed;
  return [
    `weights stay in their files, up to ${bytes(ram.mapped)}: ${fitsBeside ? "they fit beside it" : "more than fits beside it, so that some are read from disk again at every pass"}`,
  ];
}

// The lines that `run` emits before it opens each network.
function networkLines(plan: EditPlan["memory"]["plan"]): string[] {
  if (plan === undefined) return [];
  const limit = plan.limit === undefined ? "without a limit" : `for ${binarySize(plan.limit)}`;
  return [
    `networks ${limit}${plan.fits ? "" : ": they do not fit"}`,
    ...plan.networks.map(
      ({ stage, opensDuring, text }) => `  ${text}${opensDuring === stage ? "" : `; opens during ${opensDuring}`}`,
    ),
  ];
}

function needText({ needed, stage, total, available, fit }: MemoryNeed): string {
  if (total === undefined || available === undefined)
    return `${bytes(needed)} in ${stage}; the total is not known: add --vram SIZE to compare`;
  const free = available === total ? "" : ` with ${bytes(available)} free`;
  const verdict = {
    fits: "fits",
    tight: "fits only when other programs give memory back",
    no: "does not fit",
    unknown: "",
  }[fit];
  return `${bytes(needed)} in ${stage}, of ${bytes(total)}${free}: ${verdict}`;
}

function timeLines({ stages, totals, elsewhere }: EditPlan): string[] {
  if (stages.length === 0) return ["not known: it is computed elsewhere"];
  const beside = elsewhere === undefined ? "" : ", and the time of the stages elsewhere";
  if (totals.seconds !== undefined) {
    const basis = Math.min(...stages.flatMap(({ networks }) => networks.map(({ seconds: time }) => time?.basis ?? 0)));
    return [
      `about ${secondsText(totals.seconds)}, as ${counted(basis, "earlier run")} of this size on this machine went${beside}`,
    ];
  }
  const unknown = stages.filter((stage) => stage.seconds === undefined).map(({ stage }) => stage);
  return [`not known: no run of this size on this machine yet of ${unknown.join(", ")}`];
}

function problems({ files, totals }: EditPlan): string[] {
  const missing = files.filter(({ path }) => path === undefined);
  if (missing.length === 0) return [];
  const remedies = [...new Set(missing.flatMap(({ remedy }) => remedy ?? []))];
  return [
    `${counted(totals.missingFiles, "file")} (${bytes(totals.missingBytes)}) not on disk: counted as they are published`,
    ...remedies,
  ];
}

/** Columns side by side. */
export function table(rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
}

function show({ width, height }: Size): string {
  return `${width}x${height}`;
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

function bytes(count: number): string {
  if (count === 0) return "–";
  if (count < 1e6) return `${Math.ceil(count / 1e3)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];

function flops(count: number): string {
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), PREFIXES.length - 1);
  const scaled = count / 1000 ** power;
  return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${PREFIXES[power]}FLOP`;
}

/** Seconds as people say them. */
export function secondsText(count: number | undefined): string {
  if (count === undefined) return "?";
  if (count < 60) return `${count.toFixed(count < 10 ? 1 : 0)} s`;
  return count < 3600
    ? `${Math.floor(count / 60)} min ${Math.round(count % 60)} s`
    : `${Math.floor(count / 3600)} h ${Math.round((count % 3600) / 60)} min`;
}
