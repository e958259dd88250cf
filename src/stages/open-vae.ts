// Opening a half of the VAE as its memory plan says: whole, or its local part on tiles.
import { Weights } from "../checkpoint/weights.js";
import { modelOf, withSession, type Session } from "../engine/engine.js";
import type { Device } from "../engine/providers.js";
import { Graph } from "../graph/graph.js";
import type { DType } from "../graph/types.js";
import { buildVaeDecoder, buildVaeEncoder, localReach, vaeConfig, type LocalReach, type VaePart } from "../models/qwen-image/vae.js";
import type { Tensor } from "../tensor.js";
import { networkModel, numbersOf, type NetworkFile } from "./network-file.js";
import type { StageContext } from "./stage.js";
import { describeTilePlan, inTiles, planTiles, weightBytes, type Area, type TiledNeeds, type TilePlan } from "./tiles.js";
import { runBytes, withinMemory } from "./within-memory.js";

/** A VAE and how it is to work. */
export interface VaeRun {
  readonly file: NetworkFile;
  readonly compute: DType;
  /** Pixels along a side of a tile; undefined where the plan decides. */
  readonly tile: number | undefined;
}

/** Encodes a picture f32 [1, 3, H, W] in 0..1 to a latent, or decodes a latent to a picture. */
export type RunVae = (input: Tensor<"float32">) => Promise<Tensor<"float32">>;

const HALVES = {
  encoder: { network: "VAE encoder", build: buildVaeEncoder, input: "image", output: "latent" },
  decoder: { network: "VAE decoder", build: buildVaeDecoder, input: "latent", output: "image" },
} as const;

type Half = keyof typeof HALVES;

/** Opens a half of the VAE for pictures of up to an area in pixels, uses it, and closes it; by a smaller plan once more when memory runs out. Throws QEDIT_E_MEMORY. */
export function withVae<T>(half: Half, { run, pixels }: { run: VaeRun; pixels: Area }, context: StageContext, use: (vae: RunVae) => Promise<T>): Promise<T> {
  const needs = vaeNeeds(half, { run, pixels }, context.engine.device);
  const planFor = (budget: number | undefined) => planTiles(needs, budget, run.tile);
  return withinMemory(context, { planFor, describe: (plan) => describeTilePlan(plan, needs.reach) }, (plan) => openVae(half, { run, reach: needs.reach, plan }, context, use));
}

/** Sizes of a half of the VAE for its plan. */
export function vaeNeeds(half: Half, { run: { file, compute }, pixels }: { run: Omit<VaeRun, "tile">; pixels: Area }, device: Device): TiledNeeds {
  const { network } = HALVES[half];
  const numbers = numbersOf(file.checkpoint);
  const reach = localReach(numbers, half);
  const graphs = new Map<VaePart, Graph>();
  const graph = (part: VaePart) => {
    const known = graphs.get(part) ?? graphOf(half, { file, compute, part });
    graphs.set(part, known);
    return known;
  };
  return {
    network,
    weights: weightBytes(graph("all"), compute),
    reach,
    area: [pixels[0] / reach.ratio, pixels[1] / reach.ratio],
    activations(part, [height, width]) {
      // h and w count what tiles are measured in, or latent cells.
      const cells = part === "local" ? 1 : reach.ratio / vaeConfig(numbers).spatialRatio;
      return runBytes(graph(part), { h: height * cells, w: width * cells }, device);
    },
  };
}

interface GraphParts {
  readonly file: NetworkFile;
  readonly compute: DType;
  readonly part: VaePart;
}

function graphOf(half: Half, { file, compute, part }: GraphParts): Graph {
  const { network, build } = HALVES[half];
  const graph = new Graph(part === "all" ? `the ${network}` : `the ${network}, its ${part} part`);
  build(graph, Weights.of(graph, file.checkpoint), { compute, part });
  return graph;
}

interface Opening {
  readonly run: VaeRun;
  readonly reach: LocalReach;
  readonly plan: TilePlan;
}

async function openVae<T>(half: Half, { run: { file, compute }, reach, plan }: Opening, context: StageContext, use: (vae: RunVae) => Promise<T>): Promise<T> {
  const { network, input, output } = HALVES[half];
  const model = (part: VaePart) => networkModel(context, { network, file, others: { compute, part } }, () => modelOf(graphOf(half, { file, compute, part }), "full"));
  context.emit({ kind: "activity", text: "opening the VAE" });
  const { tile } = plan;
  if (tile === undefined) return withSession(context.engine, await model("all"), (session) => use((given) => runOn(session, { [input]: given }, output)));
  return withSession(context.engine, await model("local"), async (local) =>
    withSession(context.engine, await model("global"), (global) =>
      use((given) => {
        const tiled = (values: Tensor<"float32">, names: readonly [string, string], sides: { from: number; to: number }) =>
          inTiles(values, { tile, reach, ...sides }, (part, { index, total }) => {
            context.signal.throwIfAborted();
            context.emit({ kind: "activity", text: `${half === "encoder" ? "encoding" : "decoding"} tile ${index + 1} of ${total}` });
            return runOn(local, { [names[0]]: part }, names[1]);
          });
        return half === "encoder"
          ? tiled(given, [input, "features"], { from: reach.ratio, to: 1 }).then((features) => runOn(global, { features }, output))
          : runOn(global, { [input]: given }, "features").then((features) => tiled(features, ["features", output], { from: 1, to: reach.ratio }));
      }),
    ),
  );
}

async function runOn(session: Session, feeds: Readonly<Record<string, Tensor>>, output: string): Promise<Tensor<"float32">> {
  return (await session.run(feeds))[output] as Tensor<"float32">;
}
