// qedit setup: installs the CUDA provider of ONNX Runtime, which the npm package lacks.

import { removeRuntime, type SetupReport, setUp } from "../../catalog/runtime/set-up.js";
import { defaulted, optional } from "../../edit/parameters/parameter.js";
import { text, toggle } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { dataInFlags } from "../render/in-flags.js";
import type { Style } from "../render/style.js";

const options = {
  from: optional(text, {
    summary: "where to take it from: nuget, npm, or a file, folder or URL of a package",
    group: "Device",
    initialText: "nuget, else npm",
    scope: "call",
    placeholder: "<source>",
  }),
  feed: optional(text, {
    summary: "index of another NuGet v3 feed, such as a mirror",
    group: "Device",
    scope: "call",
    placeholder: "<url>",
  }),
  sha256: optional(text, {
    summary: "what a file from a URL must hash to",
    group: "Device",
    scope: "call",
    placeholder: "<hex>",
  }),
  libraries: defaulted(toggle, false, {
    summary: "get NVIDIA's CUDA 13 and cuDNN 9 libraries too, those that this machine lacks (1.1 GB from PyPI)",
    group: "Device",
    scope: "call",
  }),
  dryRun: defaulted(toggle, false, {
    summary: "only say what would be done",
    group: "Device",
    scope: "call",
    short: "n",
  }),
  force: defaulted(toggle, false, { summary: "install it again", group: "Device", scope: "call", short: "f" }),
  remove: defaulted(toggle, false, { summary: "remove what setup installed", group: "Device", scope: "call" }),
};

/** `qedit setup`. */
export const setup = defineCommand({
  examples: [
    "qedit setup",
    "qedit setup --libraries",
    "qedit setup --libraries --dry-run",
    "qedit setup --from Microsoft.ML.OnnxRuntime.Gpu.Linux.1.29.0.nupkg",
    "qedit setup --remove",
  ],
  options,
  async perform({ settings }, terminal) {
    const { remove, dryRun } = settings;
    const report = dataInFlags(remove ? await removeRuntime(settings, terminal) : await setUp(settings, terminal));
    terminal.result(report, linesOf(report, dryRun, terminal.style));
  },
});

const ACTIONS: Readonly<Record<SetupReport["action"], (report: SetupReport) => string>> = {
  installed: ({ folder, source }) => `Installed the CUDA provider from ${source} in ${folder}`,
  present: ({ folder }) => `The CUDA provider is installed already, in ${folder}`,
  "would install": ({ folder, source }) => `Would install the CUDA provider from ${source} in ${folder}`,
  removed: ({ folder }) => `Removed ${folder}`,
  "would remove": ({ folder }) => `Would remove ${folder}`,
  absent: ({ folder }) => `There is nothing to remove in ${folder}`,
};

function linesOf(report: SetupReport, isDryRun: boolean, { green, yellow, dim }: Style): string[] {
  const { action, url, sha256, libraries, works, seconds, problems = [] } = report;
  const mark = isDryRun ? "" : `${green("✔")} `;
  return [
    `${mark}${ACTIONS[action](report)}`,
    ...(url === undefined ? [] : [`  ${dim(url)}`]),
    ...(sha256 === undefined ? [] : [`  ${dim(`sha256 ${sha256}`)}`]),
    ...(libraries ?? []).map(
      ({ name, bytes = 0 }) =>
        `${mark}${isDryRun ? "Would install" : "Installed"} ${name} (${(bytes / 1e6).toFixed(0)} MB, under NVIDIA's licence)`,
    ),
    ...(works === undefined
      ? []
      : works
        ? [`${green("✔")} A session on cuda:0 works, after ${seconds!.toFixed(2)} s`]
        : [`${yellow("!")} CUDA does not work yet:`]),
    ...problems.flatMap(({ text, remedy }) => [`  - ${text}`, `    ${dim(remedy)}`]),
  ];
}
