// Opens the edit service for a command, with the user's cache folders; closes it, also after an error, and stores its timings.
import { join } from "node:path";
import { openCache } from "../artifacts/artifact-cache.js";
import type { SettingsOf } from "../edit/parameters/parameter.js";
import type { SessionTiming } from "../edit/plan/timings.js";
import { stagesElsewhere } from "../edit/remote/remote-servers.js";
import { openRemoteStages, type RemoteStages } from "../edit/remote/remote-stages.js";
import { deviceNames, type EditService, openService } from "../edit/service/service.js";
import type { StageName } from "../stages/stage.js";
import { folderFor } from "../std/own-folders.js";
import { secretOf } from "../std/secret.js";
import { scratchFolder } from "./files/scratch-folder.js";
import { recordTimings } from "./files/timings-file.js";
import type { Terminal } from "./render/terminal.js";
import type { RemoteSettings } from "./settings/remote-options.js";
import type { cacheOptions, computeOptions, manyOptions } from "./settings/shared-options.js";

/** Settings of every command that computes; cache and memory settings only for some. */
export type ComputeSettings = Pick<SettingsOf<typeof computeOptions>, "device" | "threads" | "vram"> &
  Partial<{ readonly stages: readonly StageName[] }> &
  Partial<SettingsOf<typeof cacheOptions> & SettingsOf<typeof manyOptions> & RemoteSettings>;

/** The result of the work, its device and times. */
export interface Computed<T> {
  readonly value: T;
  readonly device: string;
  /** Seconds by stage. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** Opens a service, does the work with it, and closes it. Throws QEDIT_E_USAGE, QEDIT_E_DEVICE. */
export async function withService<T>(
  settings: ComputeSettings,
  terminal: Terminal,
  work: (service: EditService) => Promise<T>,
): Promise<Computed<T>> {
  const { device, threads, vram, memory, noCache = true, cacheLimit = 0 } = settings;
  const seconds: Record<string, number> = {};
  const timings: SessionTiming[] = [];
  const service = await openService({
    ...{ device, threads, vram, memory, stages: settings.stages },
    cache: noCache ? undefined : openCache(cacheFolder(), cacheLimit),
    modulationFolder: settings.noCache === true ? undefined : modulationFolder(),
    openScratch: scratchFolder,
    remote: remoteStagesOf(settings, terminal.io.env),
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
    // Only emit a detail: timings are optional.
    await recordTimings(timings).catch((error: Error) =>
      terminal.emit({ kind: "detail", text: `no times kept: ${error.message}` }),
    );
  }
}

/** The stages that run elsewhere, with the key of their servers from the environment; undefined: none. */
export function remoteStagesOf(
  { remote = {}, remoteTimeout = Number.POSITIVE_INFINITY }: Partial<RemoteSettings>,
  env: Readonly<Record<string, string | undefined>>,
): RemoteStages | undefined {
  if (stagesElsewhere(remote).size === 0) return undefined;
  const key = secretOf(env["QEDIT_REMOTE_KEY"], "QEDIT_REMOTE_KEY");
  return openRemoteStages(remote, { key, timeout: remoteTimeout });
}

/** The folder of cached modulation vectors. */
export function modulationFolder(): string {
  return join(folderFor("cache"), "modulation");
}

/** The folder of cached artifacts. */
export function cacheFolder(): string {
  return join(folderFor("cache"), "artifacts");
}
