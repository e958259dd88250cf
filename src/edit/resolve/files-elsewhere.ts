// Refuses files of this machine for stages that run elsewhere: their servers have their own, and are told names.
import { existsSync } from "node:fs";
import { parseLora } from "../../stages/networks/loras.js";
import type { ModelRole } from "../../stages/networks/model-handle.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { jsonName } from "../parameters/parameter.js";
import type { GivenValues } from "./given.js";
import { isNeededHere } from "./model-library.js";

/** Settings that name files. */
export interface NamingSettings {
  readonly model?: string | undefined;
  readonly modelsDir?: readonly string[];
  readonly checkpoint?: string | undefined;
  readonly vae?: string | undefined;
  readonly textEncoder?: string | undefined;
  readonly transformer?: string | undefined;
  readonly lora?: readonly string[];
}

/** Where settings came from, and which stages run elsewhere. */
export interface Elsewhere {
  readonly given: GivenValues;
  readonly elsewhere: ReadonlySet<StageName>;
  readonly emit: Emit;
}

const ROLES: readonly ModelRole[] = ["vae", "textEncoder", "transformer"];

/**
 * Throws QEDIT_E_USAGE for a file of this machine that was named for this call and that only a stage elsewhere would read, for a model or a LoRA
 * by its path, and for folders that nothing here searches. What stands in settings files or the environment may be meant for other edits.
 */
export function refuseFilesElsewhere(settings: NamingSettings, { given, elsewhere, emit }: Elsewhere): void {
  if (elsewhere.size === 0) return;
  const unread = ROLES.filter((role) => !isNeededHere(role, { elsewhere }));
  const isAll = STAGES.every((stage) => elsewhere.has(stage));
  const useless = [
    ...unread.map((role) => [role, settings[role]] as const),
    ...(unread.length > 0 ? [["checkpoint", settings.checkpoint] as const] : []),
    ...(isAll ? [["modelsDir", settings.modelsDir?.join(",") || undefined] as const] : []),
  ];
  for (const [key, value] of useless) {
    if (value === undefined) continue;
    const source = given.get(key);
    if (source === undefined || source.isOfCall) throw ofThisMachine(key, value);
    emit({ kind: "detail", text: `${source.name} is not used: its stage runs elsewhere` });
  }
  const { model, lora = [] } = settings;
  if (model !== undefined && /[/\\]|^\.+$/.test(model)) throw ofThisMachine("model", model);
  if (!elsewhere.has("sample")) return;
  for (const written of lora) {
    const { path } = parseLora(written);
    // The file of that name here may be another one than the server's.
    if (/[/\\]/.test(path) || existsSync(path)) throw ofThisMachine("lora", path);
  }
}

function ofThisMachine(key: string, value: string): QeditError {
  const name = jsonName(key);
  return new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${param(name, value)}: its stage runs elsewhere, and it is a path of this machine`,
    {
      hint: `Name a model or a LoRA of the server's folders, or leave out ${param("remote")}`,
      parameter: name,
    },
  );
}
