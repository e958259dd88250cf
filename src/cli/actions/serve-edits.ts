// Implements `qedit serve`: settings of edits from files and the environment, folders, signals, the log.
import { join } from "node:path";
import { openCache } from "../../artifacts/artifact-cache.js";
import { publishedModel } from "../../catalog/published/models.js";
import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { type BaseSettings, REQUEST_PARAMETERS } from "../../edit/request/edit-request.js";
import type { Given } from "../../edit/resolve/given.js";
import type { KafkaSettings } from "../../server/kafka/kafka-door.js";
import { DEFAULT_LIMITS } from "../../server/limits.js";
import { openLog } from "../../server/log.js";
import { type ServeOptions, serve } from "../../server/serve.js";
import { folderFor } from "../../std/own-folders.js";
import { secretOf } from "../../std/secret.js";
import type { ServeCommandSettings } from "../commands/serve.js";
import { scratchFolder } from "../files/scratch-folder.js";
import { endBy } from "../interrupt.js";
import { printable } from "../render/shown.js";
import type { Terminal } from "../render/terminal.js";
import { serverSocket, storeFolder } from "../server-socket.js";
import { type RemoteSettings, refuseUselessTimeout } from "../settings/remote-options.js";
import { completeSettings, type GivenSetting, givenSettings } from "../settings/settings.js";
import { readSettingsFiles } from "../settings/settings-files.js";
import { cacheFolder, modulationFolder, remoteStagesOf } from "../with-service.js";

/** A call of `serve`. */
interface ServeCall {
  readonly settings: ServeCommandSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Serves until SIGTERM or Ctrl-C, of which a second one ends it at once. */
export async function serveEdits({ settings, given }: ServeCall, terminal: Terminal): Promise<void> {
  const { io } = terminal;
  refuseUselessTimeout(stagesElsewhere(settings.remote), given);
  const log = openLog({
    stream: io.stderr,
    isTerminal: io.stderr.isTTY === true,
    level: levelOf(terminal.settings),
    printable,
  });
  const stop = stopSignal(terminal);
  await serve({
    settings: {
      ...settings,
      apiKey: secretOf(settings.apiKey, given.get("apiKey")?.name ?? "QEDIT_API_KEY"),
      kafkaDoor: settings.kafka === undefined ? undefined : kafkaDoorOf(settings, settings.kafka),
    },
    service: warmService(settings, io.env),
    base: await baseSettings(given, terminal),
    limits: {
      ...DEFAULT_LIMITS,
      queue: settings.maxQueue,
      body: settings.maxBody,
      megapixels: settings.maxMegapixels,
      steps: settings.maxSteps,
    },
    state: settings.state ?? join(folderFor("state"), "server"),
    keepResults: settings.keepResults,
    resultsLimit: settings.resultsLimit,
    socket: settings.socket === "none" ? undefined : (settings.socket ?? serverSocket(io.env)),
    log,
    stop,
  });
}

/** Options of an edit service that stays open between edits, with this user's cache. */
export function warmService(
  {
    noCache,
    cacheLimit,
    ...settings
  }: Pick<ServeCommandSettings, "device" | "threads" | "vram" | "memory" | "keepAlive" | "noCache" | "cacheLimit"> &
    Partial<RemoteSettings>,
  env: Readonly<Record<string, string | undefined>>,
): ServeOptions["service"] {
  const { device, threads, vram, memory, keepAlive } = settings;
  return {
    ...{ device, threads, vram, memory, keepAlive },
    cache: noCache ? undefined : openCache(cacheFolder(), cacheLimit),
    modulationFolder: noCache ? undefined : modulationFolder(),
    openScratch: scratchFolder,
    remote: remoteStagesOf(settings, env),
  };
}

function kafkaDoorOf(
  { kafkaGroup: group, kafkaMember: member, retryDelays, schemaRegistry, stages, ...settings }: ServeCommandSettings,
  brokers: string,
): KafkaSettings {
  return { brokers, group, member, retryDelays, schemaRegistry, stages, store: settings.store ?? storeFolder() };
}

/**
 * The values of edits that hold where a server runs: as `run` reads them here; the server's own flags count as well. Throws QEDIT_E_USAGE, also for an
 * unknown model.
 */
export async function baseSettings(own: ReadonlyMap<string, GivenSetting>, { io }: Terminal): Promise<BaseSettings> {
  const files = await readSettingsFiles(io.cwd);
  const given = new Map<string, Given>(
    givenSettings(REQUEST_PARAMETERS, { command: "run", parsed: {}, env: io.env, files }),
  );
  for (const name of ["model", "modelsDir"]) {
    const setting = own.get(name);
    if (setting !== undefined) given.set(name, setting);
  }
  // Of every edit, not of one.
  for (const [name, each] of given) given.set(name, { ...each, isOfCall: false });
  const { prompt, ...table } = REQUEST_PARAMETERS;
  const settings = { ...completeSettings(table, given), prompt: prompt.initial, mask: undefined };
  // Else every edit that names none would be refused.
  if (settings.model !== undefined) await publishedModel(settings.model);
  return { settings, given };
}

function levelOf({ quiet, verbose, debug }: Terminal["settings"]): "debug" | "info" | "warn" {
  if (quiet) return "warn";
  return verbose || debug ? "debug" : "info";
}

/** Aborted by the first Ctrl-C or SIGTERM; a second one ends the process at once. */
export function stopSignal(terminal: Terminal): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) endBy(name);
      stop.abort();
    });
  }
  // Not before ours are there: without any handler, Node drops a signal that has come and is not yet delivered.
  terminal.leaveSignals();
  // One may have come while the command was starting.
  if (terminal.signal.aborted) stop.abort();
  return stop.signal;
}
