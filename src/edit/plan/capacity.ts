// How many machines a wanted rate of edits takes, and what they need around them: arithmetic alone. docs/scaling.md explains it.
import type { StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { offeredLoad, type Waiting, waiting } from "./queueing.js";

/** What a worker does: whole edits, or one stage. */
export type CapacityWork = "run" | StageName;

/** What deploy/k8s computes on the CPU, the VAE in workers of its own stages: overlays/per-stage. All else has a GPU for each replica. */
const ON_CPU: readonly CapacityWork[] = ["encode-image", "decode"];

/** What one replica does. */
export interface WorkLoad {
  readonly work: CapacityWork;
  /** Seconds of one edit on an open model, on the device that this work has. */
  readonly seconds: number;
  /** Bytes of weights that a replica reads when it starts; undefined: not known. */
  readonly weightBytes: number | undefined;
  /** Seconds until a replica that starts is ready; undefined: not known. */
  readonly startSeconds: number | undefined;
}

/** Bytes of one edit. */
export interface EditBytes {
  /** Its pictures, as files. */
  readonly pictures: number;
  /** Its result, as a file. */
  readonly result: number;
  /** The tensor files between stages. */
  readonly tensors: number;
}

/** What is wanted. */
export interface CapacityRequest {
  /** Edits a second. */
  readonly rate: number;
  /** Whole edits, or each stage on machines of its own. */
  readonly loads: readonly WorkLoad[];
  /** The share of its time that a replica is busy, 0..1, at most. */
  readonly utilization: number;
  /** Edits that come at once, beside the rate. */
  readonly burst: number;
  /** Seconds that 95 % of the edits, and a burst, may wait at most. */
  readonly wait: number;
  readonly bytes: EditBytes;
}

/** Why there are so many replicas and not one less. */
export type Bound = "utilization" | "burst" | "wait";

/** Replicas that do the same. */
export interface ReplicaGroup extends WorkLoad {
  readonly replicas: number;
  /** Whether each has a GPU. */
  readonly onGpu: boolean;
  readonly bound: Bound;
  /** Replicas that the rate takes without its bursts. */
  readonly steadyReplicas: number;
  /** The share of its time that a replica is busy, 0..1. */
  readonly busy: number;
  readonly waiting: Waiting;
  /** Seconds until a burst is worked off; undefined: there is none. */
  readonly burstSeconds: number | undefined;
  /** Edits a second at which the wanted utilization is reached. */
  readonly sustains: number;
  /** For autoscalers: requests in Kafka for each replica, the one in hand among them; and jobs that wait in a server's own queue. */
  readonly targets: { readonly lag: number; readonly queue: number };
  readonly minReplicas: number;
  /** Edits that come while a replica starts; undefined: not known how long. */
  readonly editsWhileStarting: number | undefined;
}

/** The answer: `qedit plan --replicas --json`. Bytes a second, unless a name says otherwise. */
export interface CapacityPlan {
  readonly rate: number;
  readonly utilization: number;
  readonly burst: number;
  readonly wait: number;
  readonly groups: readonly ReplicaGroup[];
  readonly replicas: number;
  readonly gpus: number;
  /** Of each request topic. */
  readonly partitions: number;
  /** Edits a second that all groups do at the wanted utilization, and with every replica always busy. */
  readonly sustains: number;
  readonly most: number;
  readonly store: {
    readonly picturesPerSecond: number;
    readonly reads: number;
    readonly writes: number;
    readonly bytesPerDay: number;
    readonly ofEdit: EditBytes;
  };
  readonly volume: {
    /** Weights that all replicas read when they start; undefined: not known. */
    readonly bytes: number | undefined;
    /** When all start at once and are as fast as one alone; undefined: not known. */
    readonly atOnce: number | undefined;
    /** When all start at once and none may take longer than the startup probe waits. */
    readonly least: number | undefined;
  };
}

/** Of a request topic: what `qedit kafka topics create` takes at most. */
const MOST_PARTITIONS = 10_000;
/** Partitions for each replica: a replica with two does them in turn, and partitions can only be added. */
const PARTITIONS_PER_REPLICA = 1.5;
const MOST_REPLICAS = Math.floor(MOST_PARTITIONS / PARTITIONS_PER_REPLICA);
/** Jobs that wait at one server: half of its queue in deploy/k8s/common/config.json, from which on the alert QeditQueueLong goes off. */
const MOST_QUEUE_TARGET = 32;
/** Seconds that the startup probes of deploy/k8s wait: 90 times 10. */
const STARTUP_PROBE = 900;
const DAY = 86_400;

/** Plans replicas for a rate. Throws QEDIT_E_USAGE where that is more than a topic can have workers. */
export function planCapacity(request: CapacityRequest): CapacityPlan {
  const { rate, loads, utilization, burst, wait, bytes } = request;
  const groups = loads.map((load) => replicaGroup(load, request));
  const most = Math.min(...groups.map(({ replicas, seconds }) => replicas / seconds));
  const isSplit = loads.length > 1;
  // The client writes the pictures and reads the result. Two stages read the pictures: encode-image and encode-prompt.
  const reads = bytes.pictures * (isSplit ? 2 : 1) + bytes.result + (isSplit ? bytes.tensors : 0);
  const writes = bytes.pictures + bytes.result + (isSplit ? bytes.tensors : 0);
  return {
    rate,
    utilization,
    burst,
    wait,
    groups,
    replicas: sum(groups.map(({ replicas }) => replicas)),
    gpus: sum(groups.map(({ replicas, onGpu }) => (onGpu ? replicas : 0))),
    partitions: Math.ceil(PARTITIONS_PER_REPLICA * Math.max(...groups.map(({ replicas }) => replicas))),
    sustains: utilization * most,
    most,
    store: {
      picturesPerSecond: rate,
      reads: reads * rate,
      writes: writes * rate,
      bytesPerDay: writes * rate * DAY,
      ofEdit: { ...bytes, tensors: isSplit ? bytes.tensors : 0 },
    },
    volume: volumeOf(groups),
  };
}

function replicaGroup(load: WorkLoad, { rate, utilization, burst, wait }: CapacityRequest): ReplicaGroup {
  const { work, seconds, startSeconds } = load;
  const erlangs = offeredLoad(rate, seconds);
  const forUtilization = Math.max(1, wholeAbove(erlangs / utilization));
  // A burst of b is gone after b × seconds / (replicas - erlangs).
  const forBurst = burst > 0 ? wholeAbove(erlangs + (burst * seconds) / wait) : 0;
  refuseMany(work, Math.max(forUtilization, forBurst));
  const isWithin = (replicas: number) => waiting(replicas, rate, seconds).wait95 <= wait;
  let steadyReplicas = forUtilization;
  while (!isWithin(steadyReplicas)) refuseMany(work, ++steadyReplicas);
  const replicas = Math.max(steadyReplicas, forBurst);
  const isFast = startSeconds !== undefined && startSeconds <= wait;
  return {
    ...load,
    replicas,
    onGpu: isOnGpu(work),
    steadyReplicas,
    bound: replicas > steadyReplicas ? "burst" : steadyReplicas > forUtilization ? "wait" : "utilization",
    busy: erlangs / replicas,
    waiting: waiting(replicas, rate, seconds),
    burstSeconds: burst > 0 ? (burst * seconds) / (replicas - erlangs) : undefined,
    sustains: (utilization * replicas) / seconds,
    targets: {
      lag: 1 + Math.floor(wait / seconds),
      queue: Math.min(MOST_QUEUE_TARGET, Math.max(1, Math.floor(wait / seconds))),
    },
    minReplicas: isFast ? 0 : steadyReplicas,
    editsWhileStarting: startSeconds === undefined ? undefined : rate * startSeconds,
  };
}

/** Whether replicas that do this have a GPU each. */
export function isOnGpu(work: CapacityWork): boolean {
  return !ON_CPU.includes(work);
}

function volumeOf(groups: readonly ReplicaGroup[]): CapacityPlan["volume"] {
  const total = (of: (group: ReplicaGroup) => number | undefined) => {
    const each = groups.map((group) => ({ replicas: group.replicas, value: of(group) }));
    return each.some(({ value }) => value === undefined)
      ? undefined
      : sum(each.map(({ replicas, value }) => replicas * value!));
  };
  const bytes = total(({ weightBytes }) => weightBytes);
  return {
    bytes,
    atOnce: total(({ weightBytes, startSeconds }) =>
      weightBytes === undefined || startSeconds === undefined ? undefined : weightBytes / startSeconds,
    ),
    least: bytes === undefined ? undefined : bytes / STARTUP_PROBE,
  };
}

function refuseMany(work: CapacityWork, replicas: number): void {
  if (replicas <= MOST_REPLICAS) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot plan ${replicas} replicas for ${work}: one topic has at most ${MOST_PARTITIONS} partitions, which are for ${MOST_REPLICAS}`,
    { hint: `Lower ${param("rate")} or ${param("seconds")}, or plan for several clusters`, parameter: "rate" },
  );
}

/** Of binary fractions, 12 × 0.1 / 0.8 is a little more than 1.5, and no replica more for it. */
const ROUNDING = 1e-9;

function wholeAbove(value: number): number {
  return Math.ceil(value * (1 - ROUNDING));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
