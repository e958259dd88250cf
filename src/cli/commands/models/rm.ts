// qedit models rm: removes files that qedit downloaded, after asking.
import { planRemoval, removeFile } from "../../../catalog/local/remove.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";
import { dryRun, modelsDir, yes } from "./model-options.js";

/** `qedit models rm qwen-image-edit-2511`. */
export const rm = defineCommand({
  examples: ["qedit models rm qwen-image-edit-2511", "qedit models rm qwen-image-edit --yes"],
  positionals: [["<model>", "name of the model"]],
  options: { modelsDir, dryRun, yes },
  async perform({ args: [name], settings }, terminal) {
    const { removable, kept } = await planRemoval(name!, { modelsDirs: settings.modelsDir });
    for (const { file, reason } of kept) terminal.emit({ kind: "note", text: `${file} stays: ${reason}` });
    if (removable.length === 0) {
      throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot remove ${name}: no file of it was downloaded by qedit`, {
        hint: "See where files lie: qedit models list --json",
      });
    }
    const bytes = removable.reduce((sum, file) => sum + file.bytes, 0);
    terminal.emit({ kind: "plan", lines: removable.map((file) => `${file.path}: ${decimalSize(file.bytes)}`) });
    if (settings.dryRun) return terminal.result({ removed: [], removable, kept, bytes }, []);
    if (
      !settings.yes &&
      !(await terminal.confirm(`Remove ${removable.length} files, ${decimalSize(bytes)}?`, "--yes"))
    ) {
      terminal.emit({ kind: "note", text: "nothing was removed" });
      return;
    }
    for (const file of removable) await removeFile(file);
    terminal.result(
      { removed: removable, kept, bytes },
      removable.map((file) => file.path),
    );
  },
});
