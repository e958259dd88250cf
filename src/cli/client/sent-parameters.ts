// The parameters of an edit as a server gets them: all of them, resolved here, so that none of the server's own settings has an effect.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { jsonName, type ParameterTable } from "../../edit/parameters/parameter.js";
import { isPath, REQUEST_PARAMETERS, type RequestSettings } from "../../edit/request/edit-request.js";
import type { GivenValues } from "../../edit/resolve/given.js";
import { type EditFiles, findEditFiles, type UnresolvedSettings } from "../../edit/resolve/resolve-edit.js";
import type { PictureFormat } from "../../image/io/write.js";
import { parseLora } from "../../stages/networks/loras.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import type { ServerAddress } from "./server-address.js";

/** Resolved settings of an edit. */
export type SentSettings = UnresolvedSettings & Omit<RequestSettings, "resolved" | "mask">;

/** The model files of an edit as a server is told of them. */
export interface SentFiles {
  /** Parameters that name them. */
  readonly named: Readonly<Record<string, unknown>>;
  /** Their paths; undefined where the server finds them by name. */
  readonly files: EditFiles | undefined;
}

/** A server that edits are sent to, and where settings came from. */
export interface Sending {
  readonly address: ServerAddress;
  readonly given: GivenValues;
  readonly emit: Emit;
}

/**
 * The model files of an edit: over a socket by the paths where they are found here, over a network by names of the server's folders.
 * Throws QEDIT_E_MODEL_MISSING for files that are not found here, QEDIT_E_USAGE for a path that another machine cannot read.
 */
export async function sentFiles(settings: SentSettings, { address, given, emit }: Sending): Promise<SentFiles> {
  if (address.socket === undefined) {
    refusePaths(settings, address);
    const own = given.get("modelsDir");
    if (own?.isOfCall) throw ofThisMachine("models_dir", settings.modelsDir.join(","), address);
    if (own)
      emit({ kind: "detail", text: `${own.name} is not used: the server at ${address.text} has its own folders` });
    // Its own folders are searched: the parameter is left out.
    return { named: { model: settings.model ?? null, lora: [...settings.lora] }, files: undefined };
  }
  // The server says the same.
  const found = await findEditFiles(settings, () => {});
  const files = {
    vae: resolve(found.vae!),
    textEncoder: resolve(found.textEncoder!),
    transformer: resolve(found.transformer!),
    loras: found.loras.map(({ path, strength }) => ({ path: resolve(path), strength })),
  };
  const { vae, textEncoder, transformer, loras } = files;
  const lora = loras.map(({ path, strength }) => `${path}:${strength}`);
  const folders = settings.modelsDir.map((folder) => resolve(folder));
  const named = { vae, text_encoder: textEncoder, transformer, lora, models_dir: folders };
  return { named: { ...named, model: folderOrName(settings.model) }, files };
}

/** All parameters of an edit by JSON name; null: not set. */
export function sentParameters(
  settings: SentSettings,
  { named }: SentFiles,
  { seed, format }: { readonly seed: bigint; readonly format: PictureFormat },
): Record<string, unknown> {
  const values: Readonly<Record<string, unknown>> = { ...settings, seed: String(seed), format };
  const { modelsDir: _d, resolved: _r, ...table }: ParameterTable = REQUEST_PARAMETERS;
  const sent = Object.keys(table).map((key) => {
    const isFile = isPath(table[key]!) || key === "model";
    // The model's files are named apart, and a quality is of one format.
    const isOther =
      isFile || (key === "jpegQuality" && format !== "jpeg") || (key === "webpQuality" && format !== "webp");
    return [jsonName(key), isOther ? null : (values[key] ?? null)] as const;
  });
  return { ...Object.fromEntries(sent), ...named, resolved: true };
}

// A model may be a folder in diffusers' layout.
function folderOrName(model: string | undefined): string | null {
  if (model === undefined) return null;
  return /[/\\]|^\.+$/.test(model) ? resolve(model) : model;
}

function refusePaths(settings: SentSettings, address: ServerAddress): void {
  const { model, lora, vae, textEncoder, transformer, checkpoint } = settings;
  for (const [key, value] of Object.entries({ vae, textEncoder, transformer, checkpoint }))
    if (value !== undefined) throw ofThisMachine(jsonName(key), value, address);
  if (model !== undefined && /[/\\]|^\.+$/.test(model)) throw ofThisMachine("model", model, address);
  for (const written of lora) {
    const { path } = parseLora(written);
    // The file of that name here may be another one than the server's.
    if (/[/\\]/.test(path) || existsSync(path)) throw ofThisMachine("lora", path, address);
  }
}

function ofThisMachine(name: string, value: string, { text }: ServerAddress): QeditError {
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${param(name, value)} with the server at ${text}: it is a path of this machine`,
    {
      hint: `Name a model or a LoRA of the server's folders, or edit here: ${param("server", "none")}`,
      parameter: name,
    },
  );
}
