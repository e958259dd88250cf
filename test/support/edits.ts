// Edits with the tiny test networks, as a door submits them to the service.
import { EDIT_PARAMETERS } from "../../src/edit/parameters/table.js";
import { readSettings, type WrittenSettings } from "../../src/edit/recipe/recipe-settings.js";
import { type ModelLibrary, modelLibrary } from "../../src/edit/resolve/model-library.js";
import { type LocalModels, localModels, openModels, withNumbers } from "../../src/edit/resolve/resolve-edit.js";
import type { SubmittedEdit } from "../../src/edit/service/open-edit.js";
import { type Picture, readPictures } from "../../src/stages/pictures.js";
import { fixture } from "./golden.js";

/** Quick to compute: two steps at about 140x140 pixels. */
const QUICK = { prompt: "make it winter", megapixels: 0.02, steps: 2, cfg: 1, seed: "42" };

const FILES = {
  vae: fixture("tiny/vae.safetensors"),
  textEncoder: fixture("tiny/text-encoder.safetensors"),
  transformer: fixture("tiny/transformer.safetensors"),
};

/** What an edit is made of; the cat and the quick settings unless given. */
export interface TinyEdit {
  readonly pictures?: readonly Picture[];
  readonly settings?: WrittenSettings;
  readonly loras?: readonly { readonly path: string; readonly strength: number }[];
  /** Files in place of those of the tiny networks. */
  readonly files?: Partial<typeof FILES>;
  readonly library?: ModelLibrary;
}

/** The pictures of an edit unless others are given. */
const CAT: readonly Picture[] = await readPictures([fixture("images/cat.jpg")]);

/** An edit with the tiny networks. */
export async function tinyEdit(
  edit: TinyEdit = {},
): Promise<SubmittedEdit & { readonly resolved: { readonly models: LocalModels } }> {
  const { pictures = CAT, settings = {}, loras = [], library = modelLibrary() } = edit;
  const values = withNumbers(readSettings(EDIT_PARAMETERS, { ...QUICK, ...settings }));
  const files = { ...FILES, ...edit.files, loras };
  const models = localModels(await openModels(files, { strictLora: true }, { library, emit: () => {} }));
  return { resolved: { settings: values, models, files }, pictures: async () => pictures };
}
