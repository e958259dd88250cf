// The gain of each graph optimization: a network with it and one without, each in its own process, run in turns.
import { join } from "node:path";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { GpuNetworkName, Opening } from "./networks.js";
import { relativeError } from "./parity.js";
import { type NetworkProcess, startNetwork } from "./process.js";
import { type GpuRuns, runsOf } from "./results.js";

/** An optimization, and two networks that differ only in it. */
export interface Measure {
  readonly title: string;
  readonly without: GpuNetworkName;
  readonly with: GpuNetworkName;
}

/** The optimizations, by the names that reports use. */
export const MEASURES: Readonly<Record<string, Measure>> = {
  modulation: { title: "modulation fed, not computed", without: "blocks-modulation", with: "blocks" },
  fp8: {
    title: "8-bit weights in MatMulBlockQuantizedFp8Weight, not Cast and Gemm",
    without: "blocks",
    with: "blocks-fp8",
  },
  norms: {
    title: "residuals in SkipLayerNormalization, not Add and LayerNormalization",
    without: "blocks",
    with: "blocks-norms",
  },
  vectors: {
    title: "biases and norms widened when the graph is built, not at every step",
    without: "blocks",
    with: "blocks-vectors",
  },
  gelu: { title: "biases before GELU in FastGelu, not in Gemm", without: "blocks", with: "blocks-gelu" },
  gates: {
    title: "gated biases in SkipLayerNormalization, not in Gemm",
    without: "blocks-norms",
    with: "blocks-gates",
  },
  resident: {
    title: "weights in bfloat16 in memory, not widened at every step",
    without: "blocks",
    with: "blocks-resident",
  },
  loras: { title: "LoRAs stacked, not apart", without: "blocks-lora-apart", with: "blocks-lora" },
  bytes: { title: "the decoded picture in bytes, not floats", without: "vae-decode", with: "vae-decode-bytes" },
};

/** One network of a comparison: the nodes of its graph before ONNX Runtime optimizes it, and its runs. */
export type MeasuredSide = GpuRuns & { readonly nodes: number };

/** The result of a comparison on a device. */
export interface MeasureResult {
  readonly title: string;
  readonly without: MeasuredSide;
  readonly with: MeasuredSide;
  /** Largest difference of the outputs relative to the largest magnitude; undefined if types or feeds differ. */
  readonly difference?: number;
}

/** Runs of each side after the first. */
const TURNS = 10;
/** Options of the blocks. */
const REFERENCES = 1;

/** Times both sides; throws if their graphs are equal, as for a 16-bit form on a device that computes in float32. */
export async function timeMeasure(
  { title, ...networks }: Measure,
  { opening, folder }: { opening: Opening; folder: string },
): Promise<MeasureResult> {
  await using without = startNetwork();
  await using with_ = startNetwork();
  const opened = [
    await without.ask({ kind: "open", network: networks.without, opening }),
    await with_.ask({ kind: "open", network: networks.with, opening }),
  ] as const;
  if (opened[0].form === opened[1].form)
    throw new Error(`it changes nothing on ${opening.device.provider}: the same ${opened[0].nodes} nodes with it`);
  const times: [number[], number[]] = [[], []];
  for (let turn = 0; turn <= TURNS; turn += 1) {
    for (const [index, side] of [without, with_].entries())
      times[index]!.push((await side.ask({ kind: "run", references: REFERENCES })).seconds);
  }
  const side = (index: 0 | 1) => ({ ...runsOf(times[index], undefined), nodes: opened[index].nodes });
  const difference = await differenceOf([without, with_], folder);
  return { title, without: side(0), with: side(1), ...(difference === undefined ? {} : { difference }) };
}

async function differenceOf(sides: readonly NetworkProcess[], folder: string): Promise<number | undefined> {
  const dumps = [];
  for (const [index, side] of sides.entries()) {
    const path = join(folder, `side-${index}.safetensors`);
    await side.ask({ kind: "dump", references: REFERENCES, path });
    dumps.push((await readSafetensors(path)).tensors);
  }
  const [a, b] = dumps.map((tensors) => ({
    fed: [...tensors.keys()]
      .filter((name) => name !== "velocity")
      .sort()
      .join(),
    velocity: tensors.get("velocity"),
  }));
  if (!a?.velocity || !b?.velocity || a.fed !== b.fed) return undefined;
  return relativeError(await readTensor(b.velocity), await readTensor(a.velocity));
}
