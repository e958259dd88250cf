// Running a network by its memory plan; and when memory runs out all the same, once more by the next smaller one.
import type { Device } from "../engine/providers.js";
import { QeditError } from "../errors.js";
import type { Graph } from "../graph/graph.js";
import { peakActivations, type Lengths } from "../graph/liveness.js";
import { describeNetworkPlan, sizeText, smallerPlan, type NetworkPlan } from "./memory-plan.js";
import type { StageContext } from "./stage.js";

/** Bytes that CUDA's libraries take for themselves beside a network; unmeasured, from the sizes of cuBLAS's and cuDNN's workspaces. */
const LIBRARY_BYTES = 768 * 1024 ** 2;

/**
 * How much more than its values hold a run takes: on the CPU convolutions lay out what they read (measured: 1.8 for the VAE's decoder,
 * test/stages/planned-memory.test.ts), on a GPU memory comes in regions that double (unmeasured).
 */
const RUN_SHARE = { cpu: 2, cuda: 1.5 } as const;

/** Bytes that a run of a graph takes beside weights on a device. */
export function runBytes(graph: Graph, lengths: Lengths, { provider }: Device): number {
  return Math.ceil(peakActivations(graph, lengths) * RUN_SHARE[provider]);
}

/** What a stage may plan with: the limit of its context, without what the device's own libraries take. */
export function budgetOf({ vram, engine }: StageContext): number | undefined {
  if (vram === undefined || engine.device.provider === "cpu") return vram;
  return Math.max(vram - LIBRARY_BYTES, 0);
}

/**
 * Does work by a plan, which is told where there is a limit. When memory runs out, warns and does it again by the next smaller plan, once.
 * Throws QEDIT_E_MEMORY with the switch to turn when that is not enough, or when there is no smaller plan.
 */
export async function withinMemory<Plan extends NetworkPlan, T>(
  context: StageContext,
  { planFor, describe = describeNetworkPlan }: { planFor: (budget: number | undefined) => Plan; describe?: (plan: Plan) => string },
  work: (plan: Plan) => Promise<T>,
): Promise<T> {
  const budget = budgetOf(context);
  const plan = planFor(budget);
  if (budget !== undefined) context.emit({ kind: "plan", lines: [describe(plan)] });
  try {
    return await work(plan);
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    const smaller = smallerPlan(plan, planFor) as Plan | undefined;
    if (smaller === undefined) throw withSwitch(error, plan);
    context.emit({ kind: "warning", text: `out of memory with the ${plan.network} at ${sizeText(plan.peak)}: trying once more with less. ${describe(smaller)}` });
    return await work(smaller).catch((second: unknown) => {
      throw isOutOfMemory(second) ? withSwitch(second, smaller) : second;
    });
  }
}

function isOutOfMemory(error: unknown): error is QeditError {
  return error instanceof QeditError && error.code === "QEDIT_E_MEMORY";
}

function withSwitch(error: QeditError, { peak, network }: NetworkPlan): QeditError {
  const gibibytes = Math.floor((peak / 1024 ** 3) * 0.75);
  const limit = gibibytes >= 1 ? `--vram ${gibibytes}G leaves more room to spare; or t` : "T";
  return new QeditError("QEDIT_E_MEMORY", error.message, {
    cause: error,
    hint: `${limit}ry a smaller picture: --megapixels 0.5${network.startsWith("VAE") ? ", or smaller tiles: --tile 256" : ""}`,
  });
}
