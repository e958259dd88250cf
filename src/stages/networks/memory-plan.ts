// The memory plan of a network: all layers stay open if they fit, else as many as fit, and the others are streamed, a few at a time at every
// pass, from files in the page cache. Computed from sizes alone.
import { type NetworkId, networkName } from "../../models/network-id.js";
import { binarySize } from "../../std/byte-sizes.js";

/** Layers in one streamed group; passing tokens from group to group costs about as much as reading half a layer. */
const STREAMED_LAYERS = 4;
/** Streamed groups in memory at a time: one computes, the next one opens. */
const GROUPS_AT_ONCE = 2;
/** Each smaller plan is tried with this share of the budget before. */
const NEXT_TRY = 3 / 4;
const MAX_TRIES = 24;

/** Sizes of a network, in bytes. */
export interface NetworkNeeds {
  readonly network: NetworkId;
  /** Weights in memory of each layer that can be opened by itself; one entry for a network that is always opened whole. */
  readonly layers: readonly number[];
  /** Peak of a run without weights. */
  readonly activations: number;
}

/** Consecutive layers [from, to) in one session. */
export interface LayerGroup {
  readonly from: number;
  readonly to: number;
  /** Bytes of weights. */
  readonly bytes: number;
  /** Whether it stays open; else it is streamed: opened, run and closed at every pass. */
  readonly isResident: boolean;
}

/** How a network is opened, and what that takes, in bytes. */
export interface NetworkPlan {
  readonly network: NetworkId;
  readonly weights: number;
  readonly activations: number;
  readonly groups: readonly LayerGroup[];
  /** Whether the next streamed group opens while one computes: then two of them are in memory at a time. */
  readonly opensAhead: boolean;
  /** Peak: resident groups, the streamed groups that compute and open, and the activations of both kinds. */
  readonly peak: number;
  /** Whether `peak` exceeds the budget, even with the smallest groups. */
  readonly isOverBudget: boolean;
}

/** Plans one network for a budget in bytes; undefined is no limit. */
export function planNetwork({ network, layers, activations }: NetworkNeeds, budget: number | undefined): NetworkPlan {
  const weights = sum(layers);
  const isWhole = budget === undefined || weights + activations <= budget || layers.length === 1;
  const { groups, opensAhead } = isWhole
    ? { groups: [whole(layers)], opensAhead: false }
    : split(layers, { budget, activations });
  const peak = weightsAtOnce(groups, opensAhead) + arenasAtOnce(groups) * activations;
  return {
    network,
    weights,
    activations,
    groups,
    opensAhead,
    peak,
    isOverBudget: budget !== undefined && peak > budget,
  };
}

// A session holds its arena until it closes: a resident group holds one while a streamed group computes with another.
function arenasAtOnce(groups: readonly LayerGroup[]): number {
  return new Set(groups.map(({ isResident }) => isResident)).size;
}

// Groups open in order, so those in memory together are neighbours.
function weightsAtOnce(groups: readonly LayerGroup[], opensAhead: boolean): number {
  const bytesOf = (wanted: boolean) =>
    groups.filter(({ isResident }) => isResident === wanted).map(({ bytes }) => bytes);
  const streamed = bytesOf(false);
  const together = streamed.map((bytes, index) => bytes + (opensAhead ? (streamed[index + 1] ?? 0) : 0));
  return sum(bytesOf(true)) + Math.max(0, ...together);
}

/** Whether a whole network fits in the budget while the others compute, one after another, and beside `before` bytes that are open then. */
export function fitsBeside(
  next: NetworkPlan,
  others: readonly NetworkPlan[],
  { budget, before }: { budget: number; before: number },
): boolean {
  const beside = Math.max(before, ...others.map(({ peak }) => peak));
  return next.groups.every(({ isResident }) => isResident) && next.weights + beside <= budget && next.peak <= budget;
}

/** The next plan with a smaller peak; undefined if there is none. */
export function smallerPlan(plan: NetworkPlan, planFor: (budget: number) => NetworkPlan): NetworkPlan | undefined {
  let budget = plan.peak;
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    budget *= NEXT_TRY;
    const smaller = planFor(budget);
    if (smaller.peak < plan.peak) return smaller;
  }
  return undefined;
}

/** A plan as text: `transformer: 12.7 GiB of weights, 25 of 60 layers stay open, the others 4 at a time while the next open; 8.0 GiB at most`. */
export function describeNetworkPlan({ network, weights, groups, opensAhead, peak, isOverBudget }: NetworkPlan): string {
  const layers = groups.at(-1)!.to;
  const resident = sum(groups.filter(({ isResident }) => isResident).map(({ from, to }) => to - from));
  const streamed = groups.filter(({ isResident }) => !isResident);
  const most = Math.max(0, ...streamed.map(({ from, to }) => to - from));
  const how =
    streamed.length === 0
      ? "all open"
      : `${resident} of ${layers} layers stay open, the others ${most} at a time${opensAhead ? " while the next open" : ""}`;
  return `${networkName(network)}: ${binarySize(weights)} of weights, ${how}; ${binarySize(peak)} at most${isOverBudget ? ", more than there is" : ""}`;
}

function whole(layers: readonly number[]): LayerGroup {
  return { from: 0, to: layers.length, bytes: sum(layers), isResident: true };
}

// Keeps as many of the first layers resident as fit beside the largest streamed groups. If none fits, streamed groups get that room too.
function split(
  layers: readonly number[],
  { budget, activations }: { budget: number; activations: number },
): Pick<NetworkPlan, "groups" | "opensAhead"> {
  const streamed = windowFor(layers, budget - 2 * activations);
  const room = budget - 2 * activations - streamed.bytes;
  let [resident, bytes] = [0, 0];
  while (resident < layers.length - 1 && bytes + layers[resident]! <= room) bytes += layers[resident++]!;
  const { length, opensAhead } = resident > 0 ? streamed : windowFor(layers, budget - activations);
  const groups: LayerGroup[] = resident > 0 ? [{ from: 0, to: resident, bytes, isResident: true }] : [];
  for (let from = resident; from < layers.length; from += length) {
    const to = Math.min(from + length, layers.length);
    groups.push({ from, to, bytes: sum(layers.slice(from, to)), isResident: false });
  }
  return { groups, opensAhead };
}

// Layers in one streamed group, in at most half of what is available, and the bytes of the streamed groups in memory at a time.
function windowFor(
  layers: readonly number[],
  available: number,
): { length: number; opensAhead: boolean; bytes: number } {
  const most = Math.max(...layers);
  const opensAhead = GROUPS_AT_ONCE * most <= available;
  const atOnce = opensAhead ? GROUPS_AT_ONCE : 1;
  const length = Math.max(1, Math.min(STREAMED_LAYERS, Math.floor(available / 2 / most / atOnce)));
  return { length, opensAhead, bytes: atOnce * length * most };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
