// qedit models list: the published models, and how much of each is on disk.
import { type ModelOnDisk, modelsOnDisk } from "../../../catalog/local/inventory.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { defineCommand } from "../../command.js";
import { modelsDir, table } from "./model-options.js";

/** `qedit models list`. */
export const list = defineCommand({
  examples: ["qedit models list", "qedit models list --json"],
  options: { modelsDir },
  async perform({ settings }, terminal) {
    const models = await modelsOnDisk({ modelsDirs: settings.modelsDir });
    const record = models.map(({ model, isDefault, bytes, missing, files }) => ({
      name: model.name,
      summary: model.summary,
      licence: model.licence,
      isDefault,
      bytes,
      missing,
      files: Object.fromEntries(
        Object.entries(files).map(([role, { file, path }]) => [
          role,
          { file: file.file, bytes: file.bytes, path: path ?? null },
        ]),
      ),
      loras: Object.keys(model.loras),
      presets: Object.keys(model.presets),
    }));
    terminal.result(
      { models: record },
      table(
        models.map((each) => [
          `${each.isDefault ? "*" : " "} ${each.model.name}`,
          decimalSize(each.bytes),
          stateOf(each),
          each.model.summary,
        ]),
      ),
    );
  },
});

function stateOf({ missing, bytes }: ModelOnDisk): string {
  if (missing === 0) return "on disk";
  return missing === bytes ? "not on disk" : `${decimalSize(missing)} missing`;
}
