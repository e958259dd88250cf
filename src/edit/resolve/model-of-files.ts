// Which model of the catalogue a transformer belongs to that was named as a file or a folder: its numbers then come from there, and its other files.
import { findModelFiles } from "../../catalog/local/find.js";
import { readCatalog } from "../../catalog/published/models.js";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { openPart } from "../../checkpoint/open.js";
import { transformerFamily } from "../../models/transformers.js";
import { MODEL_ROLES, numbersOf } from "../../stages/networks/model-handle.js";
import { QeditError } from "../../std/errors.js";

/** What decides the files of a call. */
interface NamedModel {
  readonly model?: string | undefined;
  readonly transformer?: string | undefined;
  readonly checkpoint?: string | undefined;
  readonly modelsDir?: readonly string[];
}

/** Whether a model is named by the path of its folder. */
export function isModelFolder(model: string | undefined): model is string {
  return model !== undefined && /[/\\]|^\.+$/.test(model);
}

/** Opens a transformer by its path. Throws what openModel throws. */
export type OpenTransformer = (path: string) => Promise<Checkpoint>;

/** Reads its header. */
export const readTransformer: OpenTransformer = (path) => openPart(path, MODEL_ROLES.transformer.part);

/**
 * The first model of the catalogue that is of the family of the transformer that was named; undefined for that of the default model, where the
 * catalogue's model was named itself, and for a file that is not there or cannot be read, which is refused when it is opened.
 */
export async function modelOfFiles(named: NamedModel, open: OpenTransformer): Promise<string | undefined> {
  const { model, transformer, checkpoint, modelsDir = [] } = named;
  const path = transformer ?? checkpoint;
  if (isModelFolder(model) ? false : model !== undefined || path === undefined) return undefined;
  const { default: first, models } = await readCatalog();
  try {
    const found = await findModelFiles({ transformer: path }, { model, roles: ["transformer"], modelsDirs: modelsDir });
    const family = transformerFamily(numbersOf(await open(found.transformer!)));
    if (family === undefined || family === models.get(first)?.family) return undefined;
    return [...models.values()].find((each) => each.family === family)?.name;
  } catch (error) {
    if (error instanceof QeditError) return undefined;
    throw error;
  }
}
