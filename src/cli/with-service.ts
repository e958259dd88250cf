// The edit service as commands use it: opened with the user's folders, closed whatever happens, its times kept for plans.
import { join } from "node:path";
import { openCache } from "../artifacts/artifact-cache.js";
import type { SettingsOf } from "../edit/parameters/parameter.js";
import { recordTimings, type SessionTiming } from "../edit/plan/timings.js";
import { deviceNames, type EditService, openService } from "../edit/service/service.js";
import { folderFor } from "../std/own-folders.js";
import { scratchFolder } from "./files/scratch-folder.js";
import type { Terminal } from "./render/terminal.js";
import type { cacheOptions, computeOptions, manyOptions } from "./settings/options.js";

/** Settings of every command that computes; some have a cache, some make many edits. */
export type ComputeSettings = Pick<SettingsOf<typeof computeOptions>, "device" | "threads" | "vram"> &
  Partial<SettingsOf<typeof cacheOptions> & SettingsOf<typeof manyOptions>>;

/** What the work gives, and on what and how long it was computed. */
export interface Computed<T> {
  readonly value: T;
  readonly device: string;
  /** Seconds by stage. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Opens a service, does the work with it, and closes it. Throws QEDIT_E_DEVICE. */
export async function withService<T>(
  settings: ComputeSettings,
  terminal: Terminal,
  work: (service: EditService) => Promise<T>,
): Promise<Computed<T>> {
  const { device, threads, vram, memory, noCache = true, cacheLimit = 0 } = settings;
  const seconds: Record<string, number> = {};
  const timings: SessionTiming[] = [];
  const service = await openService({
    ...{ device, threads, vram, memory },
    cache: noCache ? undefined : openCache(cacheFolder(), cacheLimit),
    modulationFolder: settings.noCache === true ? undefined : modulationFolder(),
    openScratch: scratchFolder,
    signal: terminal.signal,
    onTiming: (timing) => timings.push(timing),
    emit(event) {
      if (event.kind === "end") seconds[event.stage] = Number(((seconds[event.stage] ?? 0) + event.seconds).toFixed(3));
      terminal.emit(event);
    },
  });
  try {
    return { value: await work(service), device: deviceNames(service), seconds };
  } finally {
    await service.close();
    // For plans: a state folder that cannot be written must not spoil an edit.
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
