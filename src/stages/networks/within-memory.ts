// Runs a network by its memory plan, and once more by a smaller plan if memory runs out.

import type { Device } from "../../engine/providers.js";
import { type NetworkId, networkName } from "../../models/network-id.js";
import { binarySize } from "../../std/byte-sizes.js";
import { param, QeditError } from "../../std/errors.js";
import type { StageContext } from "../stage.js";
import { describeNetworkPlan, type NetworkNeeds, type NetworkPlan, planNetwork, smallerPlan } from "./memory-plan.js";

/** Bytes that cuBLAS and cuDNN take beside a network; not measured, from the sizes of their workspaces. */
const LIBRARY_BYTES = 768 * 1024 ** 2;

/** A device, and the bytes of it that networks may take; undefined is no limit. */
export interface MemoryLimit {
  readonly device: Device;
  readonly vram: number | undefined;
}

/** Bytes that one network may take: the limit minus LIBRARY_BYTES on a GPU. */
export function budgetOf({ vram, device }: MemoryLimit): number | undefined {
  if (vram === undefined || device.provider === "cpu") return vram;
  return Math.max(vram - LIBRARY_BYTES, 0);
}

/** Bytes of a device for a network of so many bytes: with LIBRARY_BYTES on a GPU. */
export function deviceBytes(networkBytes: number, { provider }: Device): number {
  return provider === "cpu" ? networkBytes : networkBytes + LIBRARY_BYTES;
}

/** How one network is planned: used by its stage and by `qedit plan`. */
export interface Planning<Plan extends NetworkPlan = NetworkPlan> {
  /** The plan for a budget in bytes; undefined is no limit. */
  planFor(budget: number | undefined): Plan;
  /** A plan as text. */
  describe(plan: Plan): string;
}

/** Planning of a network that is opened whole or in groups of layers. */
export function groupPlanning(needs: NetworkNeeds): Planning {
  return { planFor: (budget) => planNetwork(needs, budget), describe: describeNetworkPlan };
}

/**
 * Does work by a plan, which it emits if there is a limit. If memory runs out, warns and retries once by the next smaller plan.
 * Throws QEDIT_E_MEMORY, with a hint that names settings which need less memory, if that fails too or there is no smaller plan.
 */
export async function withinMemory<Plan extends NetworkPlan, T>(
  context: StageContext,
  { planFor, describe }: Planning<Plan>,
  work: (plan: Plan) => Promise<T>,
): Promise<T> {
  const budget = budgetOf({ vram: context.vram, device: context.engine.device });
  const plan = planFor(budget);
  if (budget !== undefined) context.emit({ kind: "plan", lines: [describe(plan)] });
  try {
    return await work(plan);
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    const smaller = smallerPlan(plan, planFor) as Plan | undefined;
    if (smaller === undefined) throw withHint(error, plan, context.engine.device);
    context.emit({
      kind: "warning",
      text: `out of memory with the ${networkName(plan.network)} at ${binarySize(plan.peak)}: trying once more with less. ${describe(smaller)}`,
    });
    return await work(smaller).catch((second: unknown) => {
      throw isOutOfMemory(second) ? withHint(second, smaller, context.engine.device) : second;
    });
  }
}

function isOutOfMemory(error: unknown): error is QeditError {
  return error instanceof QeditError && error.code === "QEDIT_E_MEMORY";
}

function withHint(error: QeditError, { peak, network }: NetworkPlan, device: Device): QeditError {
  const gibibytes = Math.floor((peak / 1024 ** 3) * 0.75);
  const limit = gibibytes >= 1 ? `${param("vram", `${gibibytes}G`)} leaves more room to spare; or t` : "T";
  return new QeditError("QEDIT_E_MEMORY", error.marked.message, {
    cause: error,
    hint: `${limit}ry ${smallerSettings(network, device)}`,
  });
}

// The text encoder sees pictures at a fixed size: only fewer of them need less.
function smallerSettings(network: NetworkId, { provider }: Device): string {
  if (network === "vision-tower" || network === "language-model")
    return `fewer pictures${provider === "cpu" ? "" : `, or ${param("device", "cpu")}`}`;
  return `a smaller picture: ${param("megapixels", 0.5)}${network === "vae-encoder" || network === "vae-decoder" ? `, or smaller tiles: ${param("tile", 256)}` : ""}`;
}
