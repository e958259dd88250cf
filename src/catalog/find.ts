// Finding model files that are on disk already, in place: a path as it is, else a name in the folders where models lie.
import { access } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { QeditError } from "../errors.js";
import { PACKAGE_ROOT, publishedModel, type FileRole } from "./models.js";

/** Folders of ComfyUI's models directory, besides the folder itself. */
const SUBFOLDERS = ["", "vae", "text_encoders", "clip", "diffusion_models", "unet", "loras"];

/** The folders that are searched: those of QEDIT_MODELS, then qedit's own. */
export function modelFolders(): string[] {
  const named = (process.env["QEDIT_MODELS"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return [...named, join(process.env["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "qedit", "models")];
}

/** The path itself if it exists, else the file of that name in a models folder, else undefined. */
export async function findFile(path: string): Promise<string | undefined> {
  const places = modelFolders().flatMap((folder) => SUBFOLDERS.map((subfolder) => join(folder, subfolder, path)));
  for (const place of [path, ...places]) {
    if (await access(place).then(() => true, () => false)) return place;
  }
  return undefined;
}

/** Paths of model files, as a user named them: some, or none. */
export type NamedFiles = { readonly [Role in FileRole]?: string | undefined };

/** Finds the files of the wanted roles: those the user named, the others from the model. Throws QEDIT_E_MODEL_MISSING. */
export async function findModelFiles(named: NamedFiles, { model, roles }: { model: string | undefined; roles: readonly FileRole[] }): Promise<NamedFiles> {
  const files: { [Role in FileRole]?: string } = {};
  for (const role of roles) {
    const given = named[role];
    // A model named beside files still has to exist.
    const published = given === undefined || model !== undefined ? await publishedModel(model) : undefined;
    files[role] = given === undefined ? await findPublished(published!, role) : await findNamed(given);
  }
  return files;
}

/** A file that the user named; throws QEDIT_E_MODEL_MISSING when it is nowhere. */
export async function findNamed(path: string): Promise<string> {
  const found = await findFile(path);
  if (found !== undefined) return found;
  throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${path}`, { hint: `Check the path, or name its folder: export QEDIT_MODELS=FOLDER` });
}

async function findPublished({ name, files }: Awaited<ReturnType<typeof publishedModel>>, role: FileRole): Promise<string> {
  const published = files[role];
  if ("embedded" in published) return join(PACKAGE_ROOT, published.embedded);
  const { file, bytes, repository, path } = published;
  const found = await findFile(file);
  if (found !== undefined) return found;
  const gigabytes = (bytes / 1e9).toFixed(1);
  throw new QeditError("QEDIT_E_MODEL_MISSING", `Cannot find ${file} (${gigabytes} GB) of model ${name} in ${modelFolders().join(" or ")}`, {
    hint: `Get ${path} of ${repository} on Hugging Face, or name the folder where it lies: export QEDIT_MODELS=/path/to/ComfyUI/models`,
  });
}
