// What commands that compute have in common: the model's files found, a device chosen, an engine opened and closed again.
import { join } from "node:path";
import { openCache } from "../artifacts/artifact-cache.js";
import type { FileRole } from "../catalog/published/models.js";
import { memory, type PipelineContext } from "../edit/context.js";
import { keptEngine } from "../edit/kept-engine.js";
import { measuredEngine } from "../edit/plan/measure.js";
import { recordTimings, type SessionTiming } from "../edit/plan/timings.js";
import { freeMemory } from "../engine/memory/free-memory.js";
import { deviceName } from "../engine/providers.js";
import { parseLora } from "../stages/networks/loras.js";
import type { OptionTable, SettingsOf } from "../stages/option.js";
import { folderFor } from "../std/own-folders.js";
import type { Terminal } from "./render/terminal.js";
import type { cacheOptions, computeOptions, manyOptions } from "./settings/options.js";

/** Settings of every command that computes; some have a cache, some make many edits. */
export type ComputeSettings = SettingsOf<typeof computeOptions> &
  Partial<SettingsOf<typeof cacheOptions> & SettingsOf<typeof manyOptions>>;

/** Share of free memory that weights may take; the rest is for what networks compute. */
const WEIGHTS_SHARE = 2 / 3;

type ModelSettings = Pick<ComputeSettings, "model" | "modelsDir">;

/** What the work gives, and on what and how long it was computed. */
export interface Computed<T> {
  readonly value: T;
  readonly device: string;
  /** Seconds by stage. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Chooses the device, does the work on it, and closes it, whatever happens. Throws QEDIT_E_DEVICE. */
export async function compute<T>(
  settings: ComputeSettings,
  terminal: Terminal,
  work: (context: PipelineContext) => Promise<T>,
): Promise<Computed<T>> {
  const { device, threads, noCache = true, cacheLimit = 0 } = settings;
  const seconds: Record<string, number> = {};
  const emit: Terminal["emit"] = (event) => {
    if (event.kind === "end") seconds[event.stage] = Number(((seconds[event.stage] ?? 0) + event.seconds).toFixed(3));
    terminal.emit(event);
  };
  // Help needs no device.
  const { chooseEngine } = await import("../engine/device.js");
  const chosen = await chooseEngine(device ?? "auto", threads ?? 0);
  const timings: SessionTiming[] = [];
  const engine = keptEngine(
    measuredEngine(chosen.engine, (timing) => timings.push(timing)),
    emit,
  );
  try {
    if (chosen.reason !== undefined) emit({ kind: "note", text: `computing on the CPU: ${chosen.reason}` });
    // On the CPU weights stay in their files, and the system takes back what it needs.
    const vram = settings.vram ?? (engine.device.provider === "cpu" ? undefined : await freeMemory(engine.device));
    const value = await work({
      engine,
      signal: terminal.signal,
      emit,
      recall: memory(),
      cache: noCache ? undefined : openCache(cacheFolder(), cacheLimit),
      async memory() {
        const free = settings.memory ?? vram ?? (await freeMemory(engine.device));
        return settings.memory ?? (free === undefined ? undefined : free * WEIGHTS_SHARE);
      },
      vram,
      modulationFolder: settings.noCache === true ? undefined : modulationFolder(),
    });
    return { value, device: deviceName(engine.device), seconds };
  } finally {
    await engine.dispose();
    // For plans; a home that cannot be written to must not spoil an edit.
    await recordTimings(timings).catch((error: Error) =>
      terminal.emit({ kind: "detail", text: `no times kept: ${error.message}` }),
    );
  }
}

/** Where the modulation of earlier schedules lies. */
export function modulationFolder(): string {
  return join(folderFor("cache"), "modulation");
}

/** Where results of earlier runs lie. */
export function cacheFolder(): string {
  return join(folderFor("cache"), "artifacts");
}

/** Settings with model files that the user named, or that the model's entry names, as paths on disk. Throws QEDIT_E_MODEL_MISSING. */
export async function withModelFiles<Table extends OptionTable>(
  settings: SettingsOf<Table> & ModelSettings,
  roles: readonly FileRole[],
  emit: Terminal["emit"],
): Promise<SettingsOf<Table> & ModelSettings> {
  const any = settings as Readonly<Record<string, unknown>>;
  const { model, modelsDir: modelsDirs } = settings;
  const { findLora, findModelFiles } = await import("../catalog/local/find.js");
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
