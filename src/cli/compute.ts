// What commands that compute have in common: the model's files found, a device chosen, an engine opened and closed again.
import { findLora, findModelFiles } from "../catalog/find.js";
import type { FileRole } from "../catalog/models.js";
import { chooseEngine } from "../engine/device.js";
import { deviceName } from "../engine/providers.js";
import { parseLora } from "../stages/loras.js";
import type { OptionTable, SettingsOf } from "../stages/option.js";
import type { StageContext } from "../stages/stage.js";
import type { computeOptions } from "./options.js";
import type { Terminal } from "./terminal.js";

/** Settings of every command that computes. */
export type ComputeSettings = SettingsOf<typeof computeOptions>;

type ModelSettings = Pick<ComputeSettings, "model" | "modelsDir">;

/** What the work gives, and on what and how long it was computed. */
export interface Computed<T> {
  readonly value: T;
  readonly device: string;
  /** Seconds by stage. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Chooses the device, does the work on it, and closes it, whatever happens. Throws QEDIT_E_DEVICE. */
export async function compute<T>({ device, threads }: ComputeSettings, terminal: Terminal, work: (context: StageContext) => Promise<T>): Promise<Computed<T>> {
  const seconds: Record<string, number> = {};
  const { engine, reason } = await chooseEngine(device ?? "auto", threads ?? 0);
  try {
    if (reason !== undefined) terminal.emit({ kind: "note", text: `computing on the CPU: ${reason}` });
    const value = await work({
      engine,
      signal: terminal.signal,
      emit(event) {
        if (event.kind === "end") seconds[event.stage] = Number(((seconds[event.stage] ?? 0) + event.seconds).toFixed(3));
        terminal.emit(event);
      },
    });
    return { value, device: deviceName(engine.device), seconds };
  } finally {
    await engine.dispose();
  }
}

/** Settings with model files that the user named, or that the model's entry names, as paths on disk. Throws QEDIT_E_MODEL_MISSING. */
export async function withModelFiles<Table extends OptionTable>(
  settings: SettingsOf<Table> & ModelSettings,
  roles: readonly FileRole[],
  emit: Terminal["emit"],
): Promise<SettingsOf<Table> & ModelSettings> {
  const any = settings as Readonly<Record<string, unknown>>;
  const { model, modelsDir: modelsDirs } = settings;
  const files = await findModelFiles(any, { model, roles, modelsDirs });
  const loras = (any["lora"] ?? []) as readonly string[];
  const lora = await Promise.all(
    loras.map(async (written) => {
      const { path, strength } = parseLora(written);
      return `${await findLora(path, { model, modelsDirs })}:${strength}`;
    }),
  );
  for (const [role, path] of Object.entries(files)) emit({ kind: "detail", text: `${role}: ${path}` });
  for (const path of lora) emit({ kind: "detail", text: `lora: ${path}` });
  return { ...settings, ...files, ...(loras.length > 0 ? { lora } : {}) };
}
