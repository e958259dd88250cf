// models.json: the published models by name, with their files, LoRAs, defaults and presets.

import { readFile } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure } from "../../std/files.js";
import { PACKAGE_ROOT } from "../../std/package-files.js";
import { type Catalog, type Preset, type PublishedFile, type PublishedModel, parseCatalog } from "./models-schema.js";

export type {
  FileRole,
  HubFile,
  Preset,
  PublishedFile,
  PublishedModel,
  SamplingNumbers,
} from "./models-schema.js";
export { FILE_ROLES } from "./models-schema.js";

/** The catalogue: qedit's models.json, or the file that QEDIT_CATALOG names instead. Throws QEDIT_E_USAGE when it is out of form. */
export async function readCatalog(): Promise<Catalog> {
  const path = process.env["QEDIT_CATALOG"] || `${PACKAGE_ROOT}models.json`;
  const written = await readFile(path, "utf8").catch((error: unknown) => {
    throw ioFailure("read", path, error);
  });
  return parseCatalog(parseJson(written, path), path);
}

/** The model of that name, or the default one; throws QEDIT_E_USAGE for a name that the catalogue does not have. */
export async function publishedModel(name: string | undefined): Promise<PublishedModel> {
  const { default: first, models } = await readCatalog();
  const model = models.get(name ?? first);
  if (model) return model;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot find a model named "${name}": ${[...models.keys()].join(", ")} are known`,
    { hint: "`qedit models list` says what each is", parameter: "model" },
  );
}

/** Names of all models, the default one first. */
export async function modelNames(): Promise<readonly string[]> {
  const { default: first, models } = await readCatalog();
  return [first, ...[...models.keys()].filter((name) => name !== first)];
}

/** A LoRA of a model (the default one when undefined) by its catalogue name; throws QEDIT_E_USAGE when the model has none of that name. */
export async function publishedLora(name: string, model: string | undefined): Promise<PublishedFile> {
  return named(name, "LoRA", await publishedModel(model), ({ loras }) => loras);
}

/** A preset of a model (the default one when undefined); throws QEDIT_E_USAGE when the model has none of that name. */
export async function preset(model: string | undefined, name: string): Promise<Preset> {
  return named(name, "preset", await publishedModel(model), ({ presets }) => presets);
}

function named<T>(
  name: string,
  kind: string,
  model: PublishedModel,
  table: (model: PublishedModel) => Readonly<Record<string, T>>,
): T {
  const entries = table(model);
  if (Object.hasOwn(entries, name)) return entries[name]!;
  const known = Object.keys(entries);
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot find a ${kind} named "${name}" of ${model.name}: ${known.length === 0 ? "it has none" : `it has ${known.join(", ")}`}`,
    {
      hint: `qedit models show ${model.name}`,
    },
  );
}

function parseJson(written: string, path: string): unknown {
  try {
    return JSON.parse(written);
  } catch (cause) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${path}: it is not JSON`, { cause });
  }
}
