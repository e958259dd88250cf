// The recipe: how a picture was made, complete enough to make it again. JSON inside the picture; its form is versioned.
import { basename } from "node:path";
import { isObject, isTexts } from "../std/guards.js";
import { qeditVersion } from "../std/version.js";
import type { ArtifactInfo } from "./artifact.js";

/** Raised when the meaning of a field changes. Pictures of version 0, before recipes had a version, lack `names` and the devices. */
const RECIPE_VERSION = 1;

/** A recipe as it is read: the record of the last stage, which holds those of the stages before it. */
export interface Recipe extends Required<ArtifactInfo> {
  /** Version of the form. */
  readonly recipe: number;
  /** Version of qedit that wrote the file; undefined in version 0. */
  readonly qedit: string | undefined;
}

/** The recipe of a picture as the text that its file carries. Equal runs give equal texts. */
export function recipeText({ settings, sizes, inputs, weights, names = {} }: ArtifactInfo): string {
  return JSON.stringify({ recipe: RECIPE_VERSION, qedit: qeditVersion(), settings, sizes, inputs, weights, names });
}

/** A recipe from its text, of this version, an older one, or a newer one whose fields are those known here; undefined when it is none. */
export function parseRecipe(text: string): Recipe | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  return toRecipe(value);
}

/** A recipe from parsed JSON, such as an artifact's record; undefined when it is none. */
export function toRecipe(value: unknown): Recipe | undefined {
  if (!isObject(value)) return undefined;
  const { recipe = 0, qedit, settings, sizes, inputs, weights, names } = value;
  if (typeof recipe !== "number" || !isObject(settings) || !isObject(sizes) || !isTexts(inputs) || !isTexts(weights))
    return undefined;
  return {
    recipe,
    qedit: typeof qedit === "string" ? qedit : undefined,
    settings,
    sizes,
    inputs,
    weights,
    names: isTexts(names) ? withoutFolders(names) : {},
  };
}

// A picture from elsewhere must not point at files of its choice.
function withoutFolders(names: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(names).map(([role, name]) => [role, basename(name.replaceAll("\\", "/"))]));
}
