// The model files of an edit: headers of files on disk, and published layouts for files that are missing.
import { stat } from "node:fs/promises";
import { findLora, findModelFiles } from "../../catalog/local/find.js";
import { hasRepacked } from "../../catalog/local/repacked-files.js";
import {
  FILE_ROLES,
  type FileRole,
  type PublishedFile,
  publishedLora,
  publishedModel,
} from "../../catalog/published/models.js";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { matchLora } from "../../checkpoint/lora/lora.js";
import type { RepackedFile } from "../../checkpoint/packed/packed-layout.js";
import { publishedNames } from "../../checkpoint/published-names.js";
import { checkpointConfig } from "../../checkpoint/safetensors/safetensors.js";
import type { Adapter } from "../../checkpoint/weights.js";
import { type ActiveLora, activeLora, openMatchedLora, parseLora } from "../../stages/networks/loras.js";
import { MODEL_ROLES, type ModelHandle, openModel } from "../../stages/networks/model-handle.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import { isNeededHere } from "../resolve/model-library.js";
import { namedFiles, type UnresolvedSettings } from "../resolve/resolve-edit.js";
import { lightningSteps } from "../resolve/sampling-defaults.js";
import { assumedCheckpoint } from "./layouts.js";

/** A file that an edit needs. */
export interface PlannedFile {
  readonly role: FileRole | "lora";
  /** undefined if it is not on disk. */
  readonly path: string | undefined;
  /** Its name from the user or the catalogue. */
  readonly name: string;
  /** undefined for a missing file of unknown size. */
  readonly bytes: number | undefined;
  /** What to type if it is missing. */
  readonly remedy: string | undefined;
  /** The file that its weights are repacked into by the first edit; absent where they are computed with as they are. */
  readonly repacked?: { readonly path: string; readonly bytes: number; readonly isThere: boolean };
}

/** All files of an edit. */
export interface PlannedFiles {
  readonly files: readonly PlannedFile[];
  /** The parts of the model; a missing part has its published layout and an empty identity. */
  readonly parts: Readonly<Record<FileRole, ModelHandle>>;
  /** The LoRAs of known sizes. */
  readonly adapters: readonly Adapter[];
  /** The LoRAs that are on disk. */
  readonly loras: readonly ActiveLora[];
}

/** Finds the files and reads their headers, but those of stages that run elsewhere. Throws QEDIT_E_CHECKPOINT and QEDIT_E_LORA for files on disk that cannot be used. */
export async function plannedFiles(
  settings: UnresolvedSettings,
  elsewhere: ReadonlySet<StageName> = new Set(),
): Promise<PlannedFiles> {
  const isNeeded = (role: FileRole) => isNeededHere(role, { elsewhere });
  const found = await Promise.all(
    FILE_ROLES.map(async (role) =>
      isNeeded(role) ? plannedPart(role, settings) : { file: undefined, part: await assumedPart(role, settings) },
    ),
  );
  const parts = Object.fromEntries(
    FILE_ROLES.map((role, index) => [role, found[index]!.part]),
  ) as unknown as PlannedFiles["parts"];
  const loras = await Promise.all(
    (isNeeded("transformer") ? settings.lora : []).map((written, index) =>
      plannedLora(written, { index, settings, model: parts.transformer.checkpoint }),
    ),
  );
  return {
    files: [...found, ...loras].flatMap(({ file }) => file ?? []),
    parts,
    adapters: loras.flatMap(({ adapter }) => adapter ?? []),
    loras: loras.flatMap(({ lora }) => lora ?? []),
  };
}

async function plannedPart(
  role: FileRole,
  settings: UnresolvedSettings,
): Promise<{ file: PlannedFile; part: ModelHandle }> {
  const { model, modelsDir: modelsDirs } = settings;
  const search = await orMissing(
    async () => (await findModelFiles(namedFiles(settings), { model, roles: [role], modelsDirs }))[role]!,
  );
  if (!(search instanceof QeditError)) {
    const part = await openModel(search, role);
    const file = { role, path: search, name: search, bytes: await bytesOf(part), remedy: undefined };
    return { file: { ...file, ...(part.repacked && { repacked: await repackedFacts(part.repacked) }) }, part };
  }
  const { name, bytes, ...part } = await assumedPart(role, settings);
  return { file: { role, path: undefined, name, bytes, remedy: search.marked.hint }, part: { ...part, name } };
}

// The published layout of a file that is not on disk, or not needed here.
async function assumedPart(
  role: FileRole,
  settings: UnresolvedSettings,
): Promise<ModelHandle & { readonly bytes: number | undefined }> {
  const { model } = settings;
  const { family, files } = await publishedModel(isFolder(model) ? undefined : model);
  const published = files[role];
  const named = namedFiles(settings)[role];
  const name = named ?? published.file;
  const bytes = named === undefined || named === published.file ? published.bytes : undefined;
  const assumed =
    assumedCheckpoint(role, { family, file: name, bytes }) ??
    assumedCheckpoint(role, { family, file: name, bytes: undefined });
  if (assumed === undefined) {
    throw new QeditError(
      "QEDIT_E_MODEL_MISSING",
      `Cannot plan without ${name}: the sizes of the family "${family}" are not known`,
      { hint: `Download it first: \`qedit models pull ${model}\`` },
    );
  }
  const checkpoint = publishedNames(assumed, MODEL_ROLES[role].part);
  const read = { stamps: new Map(), lookups: [], states: [] };
  return { checkpoint, config: checkpointConfig(checkpoint), identity: "", ...read, name, bytes };
}

interface PlannedLora {
  readonly file: PlannedFile;
  readonly adapter: Adapter | undefined;
  readonly lora?: ActiveLora;
}

async function plannedLora(
  written: string,
  { index, settings, model }: { index: number; settings: UnresolvedSettings; model: Checkpoint },
): Promise<PlannedLora> {
  const { path: name, strength } = parseLora(written);
  const search = await orMissing(() => findLora(name, { model: settings.model, modelsDirs: settings.modelsDir }));
  if (!(search instanceof QeditError)) {
    const lora = activeLora(await openMatchedLora(search, model), { index, strength });
    const bytes = (await stat(search)).size;
    return {
      file: { role: "lora", path: search, name: search, bytes, remedy: undefined },
      adapter: lora.adapter,
      lora,
    };
  }
  const adapterOf = async (lora: Checkpoint): Promise<Adapter> => ({
    name: `lora_strength.${index}`,
    modules: (await matchLora(lora, model)).matched,
  });
  const published = await catalogueLora(name, settings.model);
  const isLightning = published !== undefined || lightningSteps(name) !== undefined;
  const { family } = await publishedModel(isFolder(settings.model) ? undefined : settings.model);
  const assumed = isLightning
    ? assumedCheckpoint("lightning", { family, file: name, bytes: published?.bytes })
    : undefined;
  // Without the file its alphas cannot be read; they do not affect the cost.
  const readable = assumed && {
    ...assumed,
    tensors: new Map([...assumed.tensors].filter(([key]) => !key.endsWith(".alpha"))),
  };
  const adapter = readable && (await adapterOf(readable).catch(() => undefined));
  return {
    file: {
      role: "lora",
      path: undefined,
      name: published?.file ?? name,
      bytes: published?.bytes,
      remedy: search.marked.hint,
    },
    adapter,
  };
}

async function catalogueLora(name: string, model: string | undefined): Promise<PublishedFile | undefined> {
  if (isFolder(model)) return undefined;
  const { loras } = await publishedModel(model);
  const byFile = Object.values(loras).find(({ file }) => file === name);
  return byFile ?? (Object.hasOwn(loras, name) ? publishedLora(name, model) : undefined);
}

async function orMissing<T>(search: () => Promise<T>): Promise<T | QeditError> {
  try {
    return await search();
  } catch (error) {
    if (error instanceof QeditError && error.code === "QEDIT_E_MODEL_MISSING") return error;
    throw error;
  }
}

async function repackedFacts(file: RepackedFile): Promise<NonNullable<PlannedFile["repacked"]>> {
  return { path: file.path, bytes: file.layout.bytes, isThere: await hasRepacked(file) };
}

// Of the files that the user has: repacked weights are not counted.
async function bytesOf({ checkpoint, repacked }: ModelHandle): Promise<number> {
  const written = repacked?.layout.tensors.flatMap(({ from }) => from.joinedFrom?.parts ?? [from]) ?? [];
  const kept = [...checkpoint.tensors.values()].filter(({ file }) => file !== repacked?.path);
  const files = new Set([...kept, ...written].map(({ file }) => file));
  const sizes = await Promise.all([...files].map(async (file) => (await stat(file)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

function isFolder(model: string | undefined): boolean {
  return model !== undefined && /[/\\]|^\.+$/.test(model);
}
