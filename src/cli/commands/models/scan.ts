// qedit models scan: finds model files on this machine and identifies them by their headers.
import { refuseUnscannable, type ScannedFile, scanModels } from "../../../catalog/local/scan-folders.js";
import { defaulted } from "../../../edit/parameters/parameter.js";
import { toggle } from "../../../edit/parameters/parameter-kinds.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { defineCommand } from "../../command.js";
import { asFlag } from "../../io.js";
import { identityText, modelsDir } from "./model-options.js";

/** `qedit models scan ~/ComfyUI`. */
export const scan = defineCommand({
  examples: ["qedit models scan", "qedit models scan ~/ComfyUI /mnt/models", "qedit models scan --all --json"],
  positionals: [["[folder...]", "only these folders; without them every place where models are looked for"]],
  options: {
    modelsDir,
    all: defaulted(toggle, false, {
      summary: "also files that qedit cannot run; always so with folders",
      group: "Output",
      scope: "call",
    }),
  },
  async perform({ args, settings }, terminal) {
    terminal.emit({ kind: "activity", text: "reading headers" });
    for (const folder of args) await refuseUnscannable(folder);
    const { folders, files, problems } = await scanModels({
      modelsDirs: [...args, ...settings.modelsDir],
      only: args.length > 0,
    });
    for (const text of problems) terminal.emit({ kind: "warning", text });
    const isShown = (file: ScannedFile) =>
      settings.all || args.length > 0 || (file.identity !== undefined && file.identity.kind !== "other");
    const shown = files.filter(isShown).map(withSource);
    const hidden = files.length - shown.length;
    if (shown.length === 0)
      terminal.emit({
        kind: "note",
        text: `no model file that qedit runs was found in ${(folders.length > 0 ? folders : args).join(", ") || "any known folder"}`,
      });
    if (hidden > 0) terminal.emit({ kind: "note", text: `${hidden} files of other models or forms: --all shows them` });
    terminal.result({ folders, files: shown, problems }, shown.flatMap(linesOf));
  },
});

// Shows the parameter models_dir as its flag.
function withSource(file: ScannedFile): ScannedFile {
  return file.source === "models_dir" ? { ...file, source: asFlag(file.source, undefined) } : file;
}

function linesOf({ path, bytes, source, identity, models, claimed, publishedBytes, refused }: ScannedFile): string[] {
  const what = identity ? identityText(identity) : `refused: ${refused}`;
  const length =
    publishedBytes === undefined
      ? ""
      : `, published with ${decimalSize(publishedBytes)}: another release of it, or not it`;
  const known =
    models.length > 0 ? ` [${models.join(", ")}]` : claimed === undefined ? "" : ` [by its name of ${claimed}]`;
  return [path, `    ${what}; ${decimalSize(bytes)}${length}, ${source}${known}`];
}
