// What of a network is in memory at a time: all of it where it fits, else as many layers as fit, and the others a few at a time at
// every pass, from files that the system keeps in its page cache. Plain data from sizes alone.
import { binarySize } from "../../std/byte-sizes.js";

/** Layers of a network that are opened and closed together while they stream; a crossing costs about as much as reading half of one. */
const STREAMED_LAYERS = 4;
/** Groups that are in memory at a time while a network streams: one computes, the next one opens. */
const GROUPS_AT_ONCE = 2;
/** Budgets of a next try, each as a part of what was tried before. */
const NEXT_TRY = 3 / 4;
const TRIES = 24;

/** A network as sizes, in bytes. */
export interface NetworkNeeds {
  /** As people call it: `transformer`. */
  readonly network: string;
  /** Weights as they are held, by layers that can be opened apart; one for a network that is opened whole. */
  readonly layers: readonly number[];
  /** Most that a run takes beside weights. */
  readonly activations: number;
}

/** Consecutive layers [from, to) in one session. */
export interface LayerGroup {
  readonly from: number;
  readonly to: number;
  /** Of weights. */
  readonly bytes: number;
  /** Claims that it stays open; else it is opened, run and closed at every pass. */
  readonly isResident: boolean;
}

/** What is done with a network, and what that takes, in bytes. */
export interface NetworkPlan {
  readonly network: string;
  readonly weights: number;
  readonly activations: number;
  readonly groups: readonly LayerGroup[];
  /** Claims that the next group that streams opens while one computes, so that two of them are in memory at a time. */
  readonly opensAhead: boolean;
  /** Most at a time: the resident groups, the one of the others that computes and the one that opens, and what runs of both kinds take. */
  readonly peak: number;
  /** Claims that even the smallest groups are planned to take more than there is. */
  readonly isOverBudget: boolean;
}

/** Plans one network. */
export function planNetwork({ network, layers, activations }: NetworkNeeds, budget: number | undefined): NetworkPlan {
  const weights = sum(layers);
  const isWhole = budget === undefined || weights + activations <= budget || layers.length === 1;
  const { groups, opensAhead } = isWhole
    ? { groups: [whole(layers)], opensAhead: false }
    : cut(layers, { budget, activations });
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

// A session keeps what it took for its runs until it closes: those that stay open have it beside the one that computes.
function arenasAtOnce(groups: readonly LayerGroup[]): number {
  return new Set(groups.map(({ isResident }) => isResident)).size;
}

// Groups open in their order: those in memory together are neighbours.
function weightsAtOnce(groups: readonly LayerGroup[], opensAhead: boolean): number {
  const bytesOf = (wanted: boolean) =>
    groups.filter(({ isResident }) => isResident === wanted).map(({ bytes }) => bytes);
  const streamed = bytesOf(false);
  const together = streamed.map((bytes, index) => bytes + (opensAhead ? (streamed[index + 1] ?? 0) : 0));
  return sum(bytesOf(true)) + Math.max(0, ...together);
}

/** Claims that all of a network may open while others compute, one after the other, and that `before` bytes may be open beside it then. */
export function fitsBeside(
  next: NetworkPlan,
  others: readonly NetworkPlan[],
  { budget, before }: { budget: number; before: number },
): boolean {
  const beside = Math.max(before, ...others.map(({ peak }) => peak));
  return next.groups.every(({ isResident }) => isResident) && next.weights + beside <= budget && next.peak <= budget;
}

/** The next plan that takes less than this one; undefined when there is none. */
export function smallerPlan(plan: NetworkPlan, planFor: (budget: number) => NetworkPlan): NetworkPlan | undefined {
  let budget = plan.peak;
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    budget *= NEXT_TRY;
    const smaller = planFor(budget);
    if (smaller.peak < plan.peak) return smaller;
  }
  return undefined;
}

/** A plan for people: `transformer: 12.7 GiB of weights, 25 of 60 layers stay open, the others 4 at a time while the next open; 8.0 GiB at most`. */
export function describeNetworkPlan({ network, weights, groups, opensAhead, peak, isOverBudget }: NetworkPlan): string {
  const layers = groups.at(-1)!.to;
  const resident = sum(groups.filter(({ isResident }) => isResident).map(({ from, to }) => to - from));
  const streamed = groups.filter(({ isResident }) => !isResident);
  const most = Math.max(0, ...streamed.map(({ from, to }) => to - from));
  const how =
    streamed.length === 0
      ? "all open"
      : `${resident} of ${layers} layers stay open, the others ${most} at a time${opensAhead ? " while the next open" : ""}`;
  return `${network}: ${binarySize(weights)} of weights, ${how}; ${binarySize(peak)} at most${isOverBudget ? ", more than there is" : ""}`;
}

function whole(layers: readonly number[]): LayerGroup {
  return { from: 0, to: layers.length, bytes: sum(layers), isResident: true };
}

// As many of the first layers stay as fit beside the largest groups of the others; where none does, the others have more room.
function cut(
  layers: readonly number[],
  { budget, activations }: { budget: number; activations: number },
): Pick<NetworkPlan, "groups" | "opensAhead"> {
  const some = windowFor(layers, budget - 2 * activations);
  const room = budget - 2 * activations - some.bytes;
  let [resident, bytes] = [0, 0];
  while (resident < layers.length - 1 && bytes + layers[resident]! <= room) bytes += layers[resident++]!;
  const { length, opensAhead } = resident > 0 ? some : windowFor(layers, budget - activations);
  const groups: LayerGroup[] = resident > 0 ? [{ from: 0, to: resident, bytes, isResident: true }] : [];
  for (let from = resident; from < layers.length; from += length) {
    const to = Math.min(from + length, layers.length);
    groups.push({ from, to, bytes: sum(layers.slice(from, to)), isResident: false });
  }
  return { groups, opensAhead };
}

// How many layers stream together, in half of what there is, and the bytes of the groups that are in memory at a time.
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
