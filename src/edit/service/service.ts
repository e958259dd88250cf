// The edit service: one queue and one session pool per device. All interfaces (command line, servers) submit edits to it.
import { availableParallelism } from "node:os";
import type { Artifact } from "../../artifacts/artifact.js";
import type { ArtifactCache } from "../../artifacts/artifact-cache.js";
import { chooseEngine, type Isolation } from "../../engine/device.js";
import { freeMemory } from "../../engine/memory/free-memory.js";
import { type Device, deviceName, parseDevices } from "../../engine/providers.js";
import type { DecodedPicture } from "../../stages/decode.js";
import { type ArtifactStage, STAGES, type StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { measuredEngine } from "../plan/measure.js";
import type { SessionTiming } from "../plan/timings.js";
import type { RemoteStages } from "../remote/remote-stages.js";
import { checkTensorEdit, isTensorEdit } from "../tensors/open-tensor-edit.js";
import { type EditContext, memoizer } from "./context.js";
import { type Job, type JobGroup, type JobLabel, QueuedJob, type ServiceEvent } from "./job.js";
import { Lane, type Scratch } from "./lane.js";
import { checkEdit, type SubmittedEdit } from "./open-edit.js";
import { decodePicture, type FoundInput, runStage } from "./run-stage.js";
import { memoryScratch } from "./scratch.js";
import { type OpenSession, sessionPool } from "./session-pool.js";
import { unchangedWeights } from "./unchanged-weights.js";

/** Options of a service. It writes only to the caches and folders given here. */
export interface ServiceOptions {
  /** `auto`, `cpu`, `cuda`, `cuda:N`, or several separated by commas, each with its own queue. */
  readonly device?: string | undefined;
  /** Where sessions live. In a process of their own a crash does not end this process, but feeds are copied. Default "thread". */
  readonly isolation?: Isolation;
  /** Threads on the CPU; undefined is all cores. */
  readonly threads?: number | undefined;
  /** Bytes of the device that networks may take; undefined: the free memory of a GPU, no limit on the CPU. */
  readonly vram?: number | undefined;
  /** Bytes that weights may take at once with many jobs. */
  readonly memory?: number | undefined;
  /** Cache of artifacts. */
  readonly cache?: ArtifactCache | undefined;
  /** Folder where modulation vectors are cached. */
  readonly modulationFolder?: string | undefined;
  /** Opens the store for artifacts of many jobs between stages; default: in memory. */
  readonly openScratch?: (signal: AbortSignal) => Promise<Scratch>;
  /** Milliseconds that sessions stay open without a job; Infinity: always; default 0. */
  readonly keepAlive?: number;
  /** Jobs in progress at a time on one device; default 1. */
  readonly concurrency?: number;
  /** Longest queue; more jobs are refused with QEDIT_E_BUSY. */
  readonly maxQueue?: number;
  /** The stages that will be asked for; default all. */
  readonly stages?: readonly StageName[] | undefined;
  /** Stages that run elsewhere. */
  readonly remote?: RemoteStages | undefined;
  readonly emit: (event: ServiceEvent) => void;
  /** Stops all jobs between two steps. */
  readonly signal: AbortSignal;
  /** Called when the engine's process, which ended by itself, is started again. */
  readonly onRestart?: ((reason: string) => void) | undefined;
  /** Receives the timing of each session. */
  readonly onTiming?: (timing: SessionTiming) => void;
}

/** Edits that are submitted together. */
export interface Submission {
  /** Labels of the edits; job events are emitted only with labels. */
  readonly labels?: readonly JobLabel[];
  /** After this many failures the other jobs are not run. */
  readonly maxFailures?: number | undefined;
}

/** How a single stage is called. */
export interface StageCall {
  /** Receives the events of this call, which the service emits too. */
  readonly emit?: Emit;
  /** Stops it between two steps. */
  readonly signal?: AbortSignal;
}

/** The service. The caller must close it. */
export interface EditService {
  readonly devices: readonly Device[];
  /** Where it computes: its devices, or the servers of its stages if none runs here. */
  readonly place: string;
  /** Queues an edit. Throws QEDIT_E_BUSY when the queue is full. */
  readonly submit: (edit: SubmittedEdit) => Job;
  /** Queues edits together, in order. Throws QEDIT_E_BUSY when the queue is full. */
  readonly submitAll: (edits: readonly SubmittedEdit[], submission?: Submission) => readonly Job[];
  /** Throws what is known to fail before anything is computed. */
  readonly check: (edit: SubmittedEdit) => Promise<void>;
  /** The result of one stage; not from the cache if its seed was drawn. */
  readonly runStage: <Inputs, Models, Settings>(
    stage: ArtifactStage<Inputs, Models, Settings>,
    input: FoundInput<Inputs, Models, Settings>,
    options?: StageCall & { readonly isDrawn?: boolean },
  ) => Promise<Artifact>;
  /** Runs decode alone. */
  readonly decode: (input: Parameters<typeof decodePicture>[0], options?: StageCall) => Promise<DecodedPicture>;
  /** Does some work when its turn comes among the jobs of the first device, on which single stages run; the work runs stages, and submits nothing. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>;
  /** The sessions that are open now, and where. */
  readonly sessions: () => readonly (OpenSession & { readonly device: Device })[];
  /** From now on idle sessions stay open so many milliseconds, as `keepAlive` of the options. */
  readonly keepFor: (milliseconds: number) => void;
  /** Closes the sessions that no job uses; of some networks, by their ids, or all. */
  readonly closeIdle: (networks?: readonly string[]) => Promise<void>;
  /** Waits for jobs in progress, and closes every session. */
  readonly close: () => Promise<void>;
}

/** Share of free memory that weights may take; the rest is for activations. */
const WEIGHTS_SHARE = 2 / 3;

/** Opens a service on the wanted devices. Throws QEDIT_E_USAGE, QEDIT_E_DEVICE. */
export async function openService(options: ServiceOptions): Promise<EditService> {
  const { concurrency = 1, maxQueue = Number.POSITIVE_INFINITY, openScratch = async () => memoryScratch() } = options;
  const memoize = memoizer();
  const lanes: Lane[] = [];
  try {
    for (const wanted of namesOf(options)) {
      const context = await contextOf(wanted, options, memoize);
      const memory = () => memoryFor(context, options);
      lanes.push(new Lane({ context, concurrency, memory, openScratch }));
    }
  } catch (error) {
    for (const { options: lane } of lanes) await lane.context.engine.dispose();
    throw error;
  }
  const [first] = lanes as [Lane, ...Lane[]];
  const { context } = first.options;
  const submitAll: EditService["submitAll"] = (edits, { labels, maxFailures = Number.POSITIVE_INFINITY } = {}) => {
    const waiting = lanes.reduce((sum, lane) => sum + lane.length, 0);
    if (waiting + edits.length > maxQueue)
      throw new QeditError("QEDIT_E_BUSY", `Cannot take ${edits.length} more: ${waiting} of ${maxQueue} wait already`);
    const group: JobGroup = { maxFailures, failures: 0 };
    const jobs = edits.map((edit, index) => new QueuedJob({ edit, label: labels?.[index], group }));
    distribute(jobs, lanes);
    return jobs;
  };
  return {
    devices: lanes.map((lane) => lane.options.context.engine.device),
    place: context.place ?? lanes.map((lane) => deviceName(lane.options.context.engine.device)).join(","),
    submit: (edit) => submitAll([edit])[0]!,
    submitAll,
    async check(edit) {
      if (isTensorEdit(edit)) return checkTensorEdit(edit, context.engine.device);
      const { resolved, pictures, mask } = edit;
      const originals = { pictures: await pictures(), mask: await mask?.() };
      await checkEdit(originals, resolved, context.engine.device, context.remote);
    },
    async runStage(stage, input, { isDrawn = false, ...call } = {}) {
      const own = contextOfCall(context, call);
      return (await runStage(stage, input, isDrawn ? { ...own, cache: undefined } : own)).artifact;
    },
    decode(input, call = {}) {
      const own = contextOfCall(context, call);
      return decodePicture(input, own);
    },
    alone: (work) => first.alone(work),
    sessions: () =>
      lanes.flatMap(({ options: { context } }) =>
        context.engine.sessions().map((session) => ({ ...session, device: context.engine.device })),
      ),
    keepFor(milliseconds) {
      for (const lane of lanes) lane.options.context.engine.keepFor(milliseconds);
    },
    async closeIdle(networks) {
      for (const lane of lanes) await lane.options.context.engine.closeIdle(networks);
    },
    async close() {
      for (const lane of lanes) await lane.settled();
      for (const lane of lanes) await lane.options.context.engine.dispose();
    },
  };
}

function contextOfCall(context: EditContext, { emit, signal }: StageCall): EditContext {
  return {
    ...context,
    ...(emit && {
      emit(event) {
        emit(event);
        context.emit(event);
      },
    }),
    ...(signal && { signal: AbortSignal.any([context.signal, signal]) }),
  };
}

// Each job goes to the shortest queue.
function distribute(jobs: readonly QueuedJob[], lanes: readonly Lane[]): void {
  const shares = new Map<Lane, QueuedJob[]>(lanes.map((lane) => [lane, []]));
  const lengthOf = (lane: Lane) => lane.length + shares.get(lane)!.length;
  for (const job of jobs) {
    const shortest = lanes.reduce((least, lane) => (lengthOf(lane) < lengthOf(least) ? lane : least));
    shares.get(shortest)!.push(job);
  }
  for (const [lane, own] of shares) if (own.length > 0) lane.add(own);
}

// Where stages run if none runs here.
function elsewhere({ remote, stages = STAGES }: ServiceOptions): string | undefined {
  return remote && stages.every((stage) => remote.has(stage)) ? remote.place : undefined;
}

function namesOf({ device = "auto", threads = 0, ...options }: ServiceOptions): readonly string[] {
  // Nothing computes here: no GPU is looked for.
  if (elsewhere(options as ServiceOptions) !== undefined) return ["cpu"];
  const devices = parseDevices(device, threads);
  return devices === "auto" ? [devices] : devices.map(deviceName);
}

async function contextOf(
  wanted: string,
  options: ServiceOptions,
  memoize: EditContext["memoize"],
): Promise<EditContext> {
  const {
    threads = 0,
    isolation = "thread",
    emit,
    signal,
    cache,
    modulationFolder,
    keepAlive = 0,
    onTiming = () => {},
    remote,
  } = options;
  const { engine, reason } = await chooseEngine(wanted, threads, {
    isolation,
    ...(options.onRestart && { onRestart: options.onRestart }),
  });
  if (reason !== undefined) emit({ kind: "note", text: `computing on the CPU: ${reason}` });
  const isCpu = engine.device.provider === "cpu";
  const cores = availableParallelism();
  if (isCpu && threads > cores)
    emit({
      kind: "warning",
      text: `${param("threads", threads)} is slower than all cores: this machine runs ${cores} at once`,
    });
  // On the CPU weights are memory-mapped, so there is no limit by default.
  const vram = options.vram ?? (isCpu ? undefined : await freeMemory(engine.device));
  const pool = sessionPool(unchangedWeights(measuredEngine(engine, onTiming)), { keepAlive, budget: vram, emit });
  return { engine: pool, emit, signal, memoize, cache, vram, modulationFolder, remote, place: elsewhere(options) };
}

async function memoryFor({ engine, vram }: EditContext, { memory }: ServiceOptions): Promise<number | undefined> {
  if (memory !== undefined) return memory;
  const free = vram ?? (await freeMemory(engine.device));
  return free === undefined ? undefined : free * WEIGHTS_SHARE;
}

/** Where a service computes: `cpu`, `cuda:0,cuda:1`. */
export function deviceNames({ place }: Pick<EditService, "place">): string {
  return place;
}
