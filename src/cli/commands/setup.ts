// qedit setup: the CUDA provider of ONNX Runtime, which npm does not bring.
import { removeRuntime, setUp, type SetupReport } from "../../catalog/runtime/setup.js";
import { flag, text } from "../../stages/option.js";
import { defineCommand } from "../command.js";
import type { Style } from "../style.js";

const options = {
  from: text({ flags: "--from <source>", summary: "where to take it from: nuget, npm, or a file, folder or URL of a package", group: "Device", initialText: "nuget, else npm", isPerCall: true }),
  feed: text({ flags: "--feed <url>", summary: "index of another NuGet v3 feed, such as a mirror", group: "Device", isPerCall: true }),
  sha256: text({ flags: "--sha256 <hex>", summary: "what a file from a URL must hash to", group: "Device", isPerCall: true }),
  dryRun: flag({ flags: "-n, --dry-run", summary: "only say what would be done", group: "Device", isPerCall: true }),
  force: flag({ flags: "-f, --force", summary: "install it again", group: "Device", isPerCall: true }),
  remove: flag({ flags: "--remove", summary: "remove what setup installed", group: "Device", isPerCall: true }),
};

/** `qedit setup`. */
export const setup = defineCommand({
  summary: "Install the CUDA provider that an NVIDIA GPU needs",
  examples: ["qedit setup", "qedit setup --dry-run", "qedit setup --from Microsoft.ML.OnnxRuntime.Gpu.Linux.1.29.0.nupkg", "qedit setup --remove"],
  options,
  async perform({ settings }, terminal) {
    const { remove, dryRun } = settings;
    const report = remove ? await removeRuntime(dryRun) : await setUp(settings, terminal);
    terminal.result(report, linesOf(report, terminal.style));
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

function linesOf(report: SetupReport, { green, yellow, dim }: Style): string[] {
  const { action, url, sha256, works, seconds, problems = [] } = report;
  const isDone = !action.startsWith("would");
  return [
    `${isDone ? `${green("✔")} ` : ""}${ACTIONS[action](report)}`,
    ...(url === undefined ? [] : [`  ${dim(url)}`]),
    ...(sha256 === undefined ? [] : [`  ${dim(`sha256 ${sha256}`)}`]),
    ...(works === undefined ? [] : works ? [`${green("✔")} A session on cuda:0 works, after ${seconds!.toFixed(2)} s`] : [`${yellow("!")} CUDA does not work yet:`]),
    ...problems.flatMap(({ text, remedy }) => [`  - ${text}`, `    ${dim(remedy)}`]),
  ];
}
