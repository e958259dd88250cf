// Reads recipes from files: from the texts of a picture, or the metadata of an artifact.
import { parseRecipe, type Recipe, toRecipe } from "../../artifacts/recipe.js";
import { type PictureText, pictureTexts } from "../../image/io/description.js";
import { LARGEST_FILE } from "../../image/io/read.js";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readBounded } from "../../std/files.js";

/** The recipe among the texts of a picture; undefined if there is none. */
export function recipeAmong(texts: readonly PictureText[]): Recipe | undefined {
  for (const { text } of texts) {
    const recipe = text.trimStart().startsWith("{") ? parseRecipe(text) : undefined;
    if (recipe !== undefined) return recipe;
  }
  return undefined;
}

/** The recipe in a picture's bytes. Throws QEDIT_E_IMAGE if there is none. */
export function recipeIn(bytes: Uint8Array, name: string): Recipe {
  const recipe = recipeAmong(pictureTexts(bytes));
  if (recipe !== undefined) return recipe;
  throw new QeditError(
    "QEDIT_E_IMAGE",
    `Cannot find a recipe in ${name}: it was not made by qedit, or lost its metadata on the way`,
    { hint: `\`qedit inspect ${name}\` shows what the file carries` },
  );
}

/** The recipe in an artifact's metadata; undefined if another tool wrote it. */
export function artifactRecipe(metadata: Readonly<Record<string, string>>): Recipe | undefined {
  try {
    return toRecipe(JSON.parse(metadata["qedit"] ?? "null"));
  } catch {
    return undefined;
  }
}

/** The bytes of a picture file. Throws QEDIT_E_IMAGE if it does not exist, QEDIT_E_IO if it cannot be read or is larger than LARGEST_FILE. */
export async function pictureBytes(path: string): Promise<Buffer> {
  try {
    return await readBounded(path, LARGEST_FILE, { hasPipes: true });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${path}: there is no such file`, {
        hint: "Check the path",
        cause: error,
      });
    }
    throw ioFailure("read", path, error);
  }
}
