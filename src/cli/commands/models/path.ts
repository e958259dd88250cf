// qedit models path: prints paths of model files, for scripts.
import { resolve } from "node:path";
import { findModelFiles, findNamed } from "../../../catalog/local/find.js";
import { ownModelsFolder } from "../../../catalog/local/model-folders.js";
import { FILE_ROLES } from "../../../catalog/published/models.js";
import { defineCommand } from "../../command.js";
import { modelsDir } from "./model-options.js";

/** `qedit models path qwen-image-edit-2509`. */
export const path = defineCommand({
  examples: ["qedit models path", "qedit models path qwen-image-edit-2509", "qedit models path style.safetensors"],
  positionals: [["[model-or-file]", "name of a model, or of a file; qedit's own folder when it is left out"]],
  options: { modelsDir },
  async perform({ args: [name], settings }, terminal) {
    const search = { modelsDirs: settings.modelsDir };
    if (name === undefined) {
      const folder = resolve(settings.modelsDir[0] ?? ownModelsFolder());
      return terminal.result({ folder }, [folder]);
    }
    if (/[/\\]|\.\w+$/.test(name)) {
      const file = resolve(await findNamed(name, search));
      return terminal.result({ path: file }, [file]);
    }
    const files = await findModelFiles({}, { model: name, roles: FILE_ROLES, ...search });
    terminal.result(
      files,
      FILE_ROLES.map((role) => files[role]!),
    );
  },
});
