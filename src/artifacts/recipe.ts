// The recipe: how a picture was made, complete enough to make it again. JSON inside the picture; its form is versioned.
import { basename } from "node:path";
import { qeditVersion } from "../std/version.js";
import { type ArtifactInfo, checkRecord, parseRecord, recipeRecord } from "./record.js";

/** Raised when the meaning of a field changes. Pictures of version 0, before recipes had a version, lack `names` and the devices. */
const RECIPE_VERSION = 1;

/** A recipe as it is read: the record of the last stage, which holds those of the stages before it. */
export interface Recipe extends Required<ArtifactInfo> {
  /** Version of the form. */
  readonly recipe: number;
  /** Version of qedit that wrote the file; undefined in version 0. */
  readonly qedit: string | undefined;
  readonly names: Readonly<Record<string, string>>;
}

/** The recipe of a picture as the text that its file carries. Equal runs give equal texts. */
export function recipeText({ settings, sizes, inputs, weights, names = {} }: ArtifactInfo): string {
  return JSON.stringify({ recipe: RECIPE_VERSION, qedit: qeditVersion(), settings, sizes, inputs, weights, names });
}

/** A recipe from its text, of this version, an older one, or a newer one whose fields are those known here; undefined when it is none. */
export function parseRecipe(text: string): Recipe | undefined {
  return withoutFolders(parseRecord(recipeRecord, text));
}

/** A recipe from parsed JSON, such as an artifact's record; undefined when it is none. */
export function toRecipe(value: unknown): Recipe | undefined {
  return withoutFolders(checkRecord(recipeRecord, value));
}

// A picture from elsewhere must not point at files of its choice.
function withoutFolders(
  record: (ArtifactInfo & Pick<Recipe, "recipe"> & { readonly qedit?: string | undefined }) | undefined,
): Recipe | undefined {
  if (record === undefined) return undefined;
  const { recipe, qedit, settings, sizes, inputs, weights, names = {} } = record;
  const bare = Object.entries(names).map(([role, name]) => [role, basename(name.replaceAll("\\", "/"))]);
  return { recipe, qedit, settings, sizes, inputs, weights, names: Object.fromEntries(bare) };
}
