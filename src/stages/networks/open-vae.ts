// Opens the VAE's encoder or decoder by its memory plan: whole, or its local part on tiles.

import { Weights } from "../../checkpoint/weights.js";
import { runBytes } from "../../engine/memory/session-run.js";
import type { Device } from "../../engine/providers.js";
import { type Model, modelOf, type Session, withSession } from "../../engine/sessions/engine.js";
import { Graph } from "../../graph/graph.js";
import type { DType } from "../../graph/types.js";
import { networkName } from "../../models/network-id.js";
import type { LocalReach, VaePart } from "../../models/vae-family.js";
import type { VaeDecoderOptions } from "../../models/vae-networks.js";
import { buildVaeDecoder, buildVaeEncoder, localReach, vaeConfig } from "../../models/vaes.js";
import type { Tensor } from "../../std/tensor.js";
import { nonFinite } from "../finite.js";
import type { StageContext } from "../stage.js";
import { type ModelHandle, networkModel, numbersOf, type SizedFile } from "./model-handle.js";
import {
  type Area,
  describeTilePlan,
  inTiles,
  planTiles,
  type TiledNeeds,
  type TilePlan,
  weightBytes,
} from "./tiles.js";
import { type Planning, withinMemory } from "./within-memory.js";

/** A VAE and its options. */
export interface VaeRun {
  readonly file: ModelHandle;
  readonly compute: DType;
  /** Pixels along a side of a tile; undefined: the plan decides. */
  readonly tile: number | undefined;
  /** How the decoder to bytes quantizes; default "round". */
  readonly quantization?: VaeDecoderOptions["quantization"];
}

/** Outputs by half: a latent f32 [1, 16, h, w]; a picture f32 [1, 3, H, W] in 0..1, or u8 [1, H, W, 3]. */
export interface VaeResults {
  readonly encoder: Tensor<"float32">;
  readonly decoder: Tensor<"float32">;
  readonly "decoder to bytes": Tensor<"uint8">;
}

/** Encodes a picture f32 [1, 3, H, W] in 0..1, or decodes a latent. The decoder to bytes throws QEDIT_E_BAD_OUTPUT for NaN or infinity. */
export type RunVae<Name extends Half> = (input: Tensor<"float32">) => Promise<VaeResults[Name]>;

const DECODER = {
  half: "decoder",
  network: "vae-decoder",
  build: buildVaeDecoder,
  input: "latent",
  output: "image",
} as const;
const HALVES = {
  encoder: { half: "encoder", network: "vae-encoder", build: buildVaeEncoder, input: "image", output: "latent" },
  decoder: DECODER,
  "decoder to bytes": DECODER,
} as const;

type Half = keyof VaeResults;

/** Opens a half of the VAE for pictures of up to [height, width] pixels, uses it, and closes it. Out of memory, it retries once with a smaller plan, then throws QEDIT_E_MEMORY. */
export function withVae<Name extends Half, T>(
  half: Name,
  { run, pixels }: { run: VaeRun; pixels: Area },
  context: StageContext,
  use: (vae: RunVae<Name>) => Promise<T>,
): Promise<T> {
  const planning = vaePlanning(half, { run, pixels }, context.engine.device);
  return withinMemory(context, planning, (plan) => openVae(half, { run, reach: planning.reach, plan }, context, use));
}

/** What a VAE's memory plan depends on. */
export type SizedVae = Omit<VaeRun, "file"> & { readonly file: SizedFile };

/** Plans a half of the VAE: whole or on tiles. */
export function vaePlanning(
  half: Half,
  { run, pixels }: { run: SizedVae; pixels: Area },
  device: Device,
): Planning<TilePlan> & Pick<TiledNeeds, "reach"> {
  const needs = vaeNeeds(half, { run, pixels }, device);
  const { reach } = needs;
  return {
    reach,
    planFor: (budget) => planTiles(needs, budget, run.tile),
    describe: (plan) => describeTilePlan(plan, reach),
  };
}

/** Sizes of a half of the VAE for its memory plan. */
export function vaeNeeds(
  half: Half,
  { run, pixels }: { run: Omit<SizedVae, "tile">; pixels: Area },
  device: Device,
): TiledNeeds {
  const { network, half: base } = HALVES[half];
  const numbers = numbersOf(run.file.checkpoint);
  const reach = localReach(numbers, base);
  const graphs = new Map<VaePart, Graph>();
  const graph = (part: VaePart) => {
    const built = graphs.get(part) ?? graphOf(half, run, part);
    graphs.set(part, built);
    return built;
  };
  return {
    network,
    get weights() {
      return weightBytes(graph("all"), run.compute);
    },
    reach,
    area: [pixels[0] / reach.ratio, pixels[1] / reach.ratio],
    activations(part, [height, width]) {
      // The graph's h and w are features in the local part, else latent cells.
      const cells = part === "local" ? 1 : reach.ratio / vaeConfig(numbers).spatialRatio;
      return runBytes(
        { graph: graph(part), optimization: "full", compute: run.compute },
        { h: height * cells, w: width * cells },
        device,
      );
    },
  };
}

function graphOf(half: Half, { file, compute, quantization = "round" }: Omit<SizedVae, "tile">, part: VaePart): Graph {
  const { network, build } = HALVES[half];
  const name = `the ${networkName(network)}`;
  const graph = new Graph(part === "all" ? name : `${name}, its ${part} part`);
  build(graph, Weights.of(graph, file.checkpoint), {
    compute,
    part,
    quantization: half === "decoder to bytes" ? quantization : undefined,
  });
  return graph;
}

function vaeModel(
  half: Half,
  { run, part }: { run: Omit<VaeRun, "tile">; part: VaePart },
  context: StageContext,
): Promise<Model> {
  const { network } = HALVES[half];
  const { file, compute, quantization } = run;
  return networkModel(context, { network, file, others: { compute, part, half, quantization } }, () =>
    modelOf(graphOf(half, run, part), "full", network),
  );
}

/** The graph of a half of the VAE for pictures that fit without tiles: the one to prefetch. */
export function wholeVae(half: Half, run: Omit<VaeRun, "tile">, context: StageContext): Promise<Model> {
  return vaeModel(half, { run, part: "all" }, context);
}

interface Opening {
  readonly run: VaeRun;
  readonly reach: LocalReach;
  readonly plan: TilePlan;
}

async function openVae<Name extends Half, T>(
  half: Name,
  { run, reach, plan }: Opening,
  context: StageContext,
  use: (vae: RunVae<Name>) => Promise<T>,
): Promise<T> {
  const { input, output } = HALVES[half];
  const model = (part: VaePart) => vaeModel(half, { run, part }, context);
  context.emit({ kind: "activity", text: "opening the VAE" });
  const { tile } = plan;
  if (tile === undefined)
    return withSession(context.engine, await model("all"), (session) =>
      use((values) => resultOf<VaeResults[Name]>(session, { [input]: values }, output)),
    );
  return withSession(context.engine, await model("local"), async (local) =>
    withSession(context.engine, await model("global"), (global) =>
      use((whole) => {
        const tiled = (
          values: Tensor<"float32">,
          names: readonly [string, string],
          sides: { from: number; to: number },
        ) =>
          inTiles(values, { tile, reach, ...sides }, (part, { index, total }) => {
            context.signal.throwIfAborted();
            context.emit({
              kind: "activity",
              text: `${half === "encoder" ? "encoding" : "decoding"} tile ${index + 1} of ${total}`,
            });
            return resultOf<VaeResults[Name]>(local, { [names[0]]: part }, names[1]);
          });
        return half === "encoder"
          ? tiled(whole, [input, "features"], { from: reach.ratio, to: 1 }).then((features) =>
              resultOf(global, { features }, output),
            )
          : resultOf<Tensor<"float32">>(global, { [input]: whole }, "features").then((features) =>
              tiled(features, ["features", output], { from: 1, to: reach.ratio }),
            );
      }),
    ),
  );
}

async function resultOf<Result extends Tensor>(
  session: Session,
  feeds: Readonly<Record<string, Tensor>>,
  output: string,
): Promise<Result> {
  const outputs = await session.run(feeds);
  const sum = outputs["finite"]?.data[0];
  if (sum !== undefined && !Number.isFinite(sum)) throw nonFinite("the picture", "it holds NaN or infinity");
  return outputs[output] as Result;
}
