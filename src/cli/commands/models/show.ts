// qedit models show: one model with its files, LoRAs, defaults and presets.
import type { Located } from "../../../catalog/local/inventory.js";
import { modelOnDisk } from "../../../catalog/local/inventory.js";
import { defineCommand } from "../../command.js";
import { exactBytes, modelsDir } from "./model-options.js";

/** `qedit models show qwen-image-edit-2511`. */
export const show = defineCommand({
  examples: ["qedit models show", "qedit models show qwen-image-edit-2511 --json"],
  positionals: [["[model]", "name of the model; the default one when it is left out"]],
  options: { modelsDir },
  async perform({ args, settings }, terminal) {
    const { model, files, loras, bytes, missing } = await modelOnDisk(args[0], { modelsDirs: settings.modelsDir });
    const located = (entries: Readonly<Record<string, Located>>) =>
      Object.fromEntries(
        Object.entries(entries).map(([name, { file, path }]) => [name, { ...file, at: path ?? null }]),
      );
    const { name, summary, licence, defaults, defaultsFrom, presets } = model;
    terminal.result(
      {
        ...{ name, summary, licence, bytes, missing, files: located(files), loras: located(loras) },
        ...{ defaults, defaultsFrom: defaultsFrom ?? null, presets },
      },
      [
        `${name}: ${summary} (${licence})`,
        "",
        ...Object.entries(files).flatMap(([role, each]) => fileLines(role, each)),
        "",
        "LoRAs:",
        ...Object.entries(loras).flatMap(([lora, each]) => fileLines(lora, each)),
        "",
        `Defaults: ${numbers(defaults)}`,
        ...(defaultsFrom === undefined ? [] : [`  from ${defaultsFrom}`]),
        "Presets:",
        ...Object.entries(presets).map(
          ([preset, { summary: what, ...rest }]) => `  ${preset}: ${what}; ${numbers(rest)}`,
        ),
      ],
    );
  },
});

function fileLines(label: string, { file, path }: Located): string[] {
  const source =
    "repository" in file ? `${file.repository} ${file.path} at ${file.revision.slice(0, 12)}` : "part of qedit";
  return [
    `  ${label}: ${file.file}, ${exactBytes(file.bytes)}, ${file.licence}`,
    `    from ${source}`,
    `    sha256 ${file.sha256 ?? "no published hash known"}`,
    `    ${path === undefined ? "not on disk" : `at ${path}`}`,
  ];
}

function numbers(values: object): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}
