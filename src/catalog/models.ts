// models.json: the published models by name, and what their files are called.
import { readFile } from "node:fs/promises";
import { QeditError } from "../errors.js";

/** What a file is for; also the name of the setting that takes its path. */
export type FileRole = "vae" | "textEncoder" | "transformer";

/** A published file: its name on disk, its length in bytes, and where it is published. */
export interface PublishedFile {
  readonly file: string;
  readonly bytes: number;
  readonly repository: string;
  readonly path: string;
}

/** A published model. */
export interface PublishedModel {
  readonly summary: string;
  readonly licence: string;
  readonly files: Readonly<Record<FileRole, PublishedFile>>;
}

interface Catalog {
  readonly default: string;
  readonly models: Readonly<Record<string, PublishedModel>>;
}

async function readCatalog(): Promise<Catalog> {
  return JSON.parse(await readFile(new URL("../../models.json", import.meta.url), "utf8")) as Catalog;
}

/** The model of that name, or the default one; throws QEDIT_E_USAGE for a name that models.json does not have. */
export async function publishedModel(name: string | undefined): Promise<PublishedModel & { readonly name: string }> {
  const catalog = await readCatalog();
  const wanted = name ?? catalog.default;
  const model = catalog.models[wanted];
  if (!model) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot find a model named "${wanted}": ${Object.keys(catalog.models).join(", ")} is known`, {
      hint: `--model ${catalog.default}`,
    });
  }
  return { ...model, name: wanted };
}
