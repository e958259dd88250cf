// qedit models repacked: the weights that qedit wrote once more in a form that it computes with, and their removal.
import { listRepacked, type RepackedOnDisk, removeRepacked } from "../../../catalog/local/repacked-files.js";
import { defaulted } from "../../../edit/parameters/parameter.js";
import { toggle } from "../../../edit/parameters/parameter-kinds.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";
import { table, yes } from "./model-options.js";

/** `qedit models repacked`. */
export const repacked = defineCommand({
  examples: ["qedit models repacked", "qedit models repacked --rm ~/models/qwen-image-edit-2509-Q4_K_M.gguf"],
  positionals: [["[file...]", "the GGUF files that they were made of, or the repacked files; without them all"]],
  options: {
    rm: defaulted(toggle, false, {
      summary: "remove them; the next edit with the GGUF file makes its own again",
      group: "Output",
      scope: "call",
    }),
    yes,
  },
  async perform({ args, settings }, terminal) {
    const all = await listRepacked();
    const files = args.length === 0 ? all : args.flatMap((name) => named(name, all));
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    if (!settings.rm) {
      if (files.length === 0) terminal.emit({ kind: "note", text: "no weights are repacked" });
      terminal.result({ files, bytes, removed: [] }, table(files.map(row)));
      return;
    }
    const question = `Remove ${files.length} repacked files, ${decimalSize(bytes)}?`;
    if (files.length > 0 && !settings.yes && !(await terminal.confirm(question, "--yes"))) {
      terminal.emit({ kind: "note", text: "nothing was removed" });
      return;
    }
    for (const file of files) await removeRepacked(file);
    terminal.result(
      { files, bytes, removed: files.map(({ path }) => path) },
      files.map(({ path }) => path),
    );
  },
});

function named(name: string, all: readonly RepackedOnDisk[]): readonly RepackedOnDisk[] {
  const isIt = (path: string) => path === name || path.endsWith(`/${name.replace(/^(\.\/|~\/)/, "")}`);
  const found = all.filter(({ path, sources = [] }) => isIt(path) || sources.some(({ file }) => isIt(file)));
  if (found.length > 0) return found;
  throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find repacked weights of ${name}`, {
    hint: "See which there are: qedit models repacked",
  });
}

function row({ path, bytes, sources, isChanged }: RepackedOnDisk): string[] {
  const of = sources?.map(({ file }) => file).join(", ") ?? "made again when it is wanted: its receipt is lost";
  return [decimalSize(bytes), path, isChanged ? `${of}; changed since it was made: made again when it is wanted` : of];
}
