// Running a network by its memory plan; and when memory runs out all the same, once more by the next smaller one.

import type { Device } from "../../engine/providers.js";
import { binarySize } from "../../std/byte-sizes.js";
import { param, QeditError } from "../../std/errors.js";
import type { StageContext } from "../stage.js";
import { describeNetworkPlan, type NetworkNeeds, type NetworkPlan, planNetwork, smallerPlan } from "./memory-plan.js";

/** Bytes that CUDA's libraries take for themselves beside a network; unmeasured, from the sizes of cuBLAS's and cuDNN's workspaces. */
const LIBRARY_BYTES = 768 * 1024 ** 2;

/** What a plan is made for: a device, and the bytes of it that networks may take; undefined is no limit. */
export interface MemoryLimit {
  readonly device: Device;
  readonly vram: number | undefined;
}

/** Bytes that one network may take: the limit, without what the device's own libraries take. */
export function budgetOf({ vram, device }: MemoryLimit): number | undefined {
  if (vram === undefined || device.provider === "cpu") return vram;
  return Math.max(vram - LIBRARY_BYTES, 0);
}

/** Bytes of a device that a network needs which takes so many. */
export function deviceBytes(taken: number, { provider }: Device): number {
  return provider === "cpu" ? taken : taken + LIBRARY_BYTES;
}

/** How one network is planned for an edit: what a stage follows, and what `plan` shows before. */
export interface Planning<Plan extends NetworkPlan = NetworkPlan> {
  /** The plan for so many bytes; undefined is no limit. */
  planFor(budget: number | undefined): Plan;
  /** A plan for people. */
  describe(plan: Plan): string;
}

/** The planning of a network that is opened whole or in groups of layers. */
export function groupPlanning(needs: NetworkNeeds): Planning {
  return { planFor: (budget) => planNetwork(needs, budget), describe: describeNetworkPlan };
}

/**
 * Does work by a plan, which is told where there is a limit. When memory runs out, warns and does it again by the next smaller plan, once.
 * Throws QEDIT_E_MEMORY with the switch to turn when that is not enough, or when there is no smaller plan.
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
    if (smaller === undefined) throw withSwitch(error, plan, context.engine.device);
    context.emit({
      kind: "warning",
      text: `out of memory with the ${plan.network} at ${binarySize(plan.peak)}: trying once more with less. ${describe(smaller)}`,
    });
    return await work(smaller).catch((second: unknown) => {
      throw isOutOfMemory(second) ? withSwitch(second, smaller, context.engine.device) : second;
    });
  }
}

function isOutOfMemory(error: unknown): error is QeditError {
  return error instanceof QeditError && error.code === "QEDIT_E_MEMORY";
}

function withSwitch(error: QeditError, { peak, network }: NetworkPlan, device: Device): QeditError {
  const gibibytes = Math.floor((peak / 1024 ** 3) * 0.75);
  const limit = gibibytes >= 1 ? `${param("vram", `${gibibytes}G`)} leaves more room to spare; or t` : "T";
  return new QeditError("QEDIT_E_MEMORY", error.marked.message, {
    cause: error,
    hint: `${limit}ry ${lessFor(network, device)}`,
  });
}

// What the vision tower sees is of one size, and the prompt's length is that of its pictures.
function lessFor(network: string, { provider }: Device): string {
  if (network === "vision tower" || network === "language model")
    return `fewer pictures${provider === "cpu" ? "" : `, or ${param("device", "cpu")}`}`;
  return `a smaller picture: ${param("megapixels", 0.5)}${network.startsWith("VAE") ? `, or smaller tiles: ${param("tile", 256)}` : ""}`;
}
