// Tiling of the VAE, for pictures that do not fit at once. Only the attention in the middle is global; it runs on the whole picture, eight times
// smaller along each side. All other layers are local and run on tiles, with a margin as wide as their receptive field that is cropped afterwards.
// So there are no seams to blend: the result equals that of the whole picture except for the order of float32 sums.

import type { Graph } from "../../graph/graph.js";
import { type DType, ELEMENT } from "../../graph/types.js";
import { type NetworkId, networkName } from "../../models/network-id.js";
import type { LocalReach } from "../../models/vae-family.js";
import { binarySize } from "../../std/byte-sizes.js";
import { elementCount, float32, type Tensor, tensor } from "../../std/tensor.js";
import { describeNetworkPlan, type LayerGroup, type NetworkPlan } from "./memory-plan.js";

/** Smallest side of a tile, in features; below it nearly all work is margin. */
const SMALLEST_TILE = 8;

/** Height and width, in features. */
export type Area = readonly [height: number, width: number];

/** A plan for one half of the VAE. */
export interface TilePlan extends NetworkPlan {
  /** Features along a side of a tile; undefined: no tiles. */
  readonly tile: number | undefined;
}

/** Sizes of one half of the VAE, in bytes: its weights, and the activations of a part of it at an area in features. */
export interface TiledNeeds {
  readonly network: NetworkId;
  readonly weights: number;
  readonly reach: LocalReach;
  readonly area: Area;
  readonly activations: (part: "all" | "global" | "local", area: Area) => number;
}

/**
 * Plans the largest tiles that fit in a budget; with `forced`, tiles of so many pixels a side, or smaller ones if those do not fit. Sizes are computed
 * when they are first asked for: without a budget nobody does.
 */
export function planTiles(needs: TiledNeeds, budget: number | undefined, forced?: number): TilePlan {
  const { reach, area } = needs;
  const planOf = (tile: number | undefined) => new SizedTiles(needs, budget, tile);
  const most = forced === undefined ? Math.max(...area) : Math.max(Math.round(forced / reach.ratio), 1);
  const sides: (number | undefined)[] = forced === undefined ? [undefined] : [most];
  for (let side = Math.ceil(most / 2); side >= SMALLEST_TILE; side = Math.ceil(side / 2)) sides.push(side);
  let plan = planOf(sides[0]);
  for (const side of sides.slice(1)) {
    if (!plan.isOverBudget) return plan;
    const smaller = planOf(side);
    if (smaller.peak < plan.peak) plan = smaller;
  }
  return plan;
}

class SizedTiles implements TilePlan {
  readonly opensAhead = false;
  readonly tile: number | undefined;
  readonly #needs: TiledNeeds;
  readonly #budget: number | undefined;
  #activations: number | undefined;

  constructor(needs: TiledNeeds, budget: number | undefined, tile: number | undefined) {
    this.#needs = needs;
    this.#budget = budget;
    this.tile = tile;
  }

  get network(): NetworkId {
    return this.#needs.network;
  }

  get weights(): number {
    return this.#needs.weights;
  }

  get groups(): LayerGroup[] {
    return [{ from: 0, to: 1, bytes: this.weights, isResident: true }];
  }

  get activations(): number {
    const { activations, area, reach } = this.#needs;
    this.#activations ??=
      this.tile === undefined
        ? activations("all", area)
        : // Both parts are open, and each session keeps its arena.
          activations("global", area) + activations("local", regionOf(area, this.tile, reach));
    return this.#activations;
  }

  get peak(): number {
    return this.weights + this.activations;
  }

  get isOverBudget(): boolean {
    return this.#budget !== undefined && this.peak > this.#budget;
  }
}

/** A plan as text. */
export function describeTilePlan(plan: TilePlan, { ratio }: LocalReach): string {
  if (plan.tile === undefined) return describeNetworkPlan(plan);
  const side = plan.tile * ratio;
  return `${networkName(plan.network)}: tiles of ${side}x${side} pixels; ${binarySize(plan.peak)} at most${plan.isOverBudget ? ", more than there is" : ""}`;
}

/** Bytes of a graph's weights in their compute type. */
export function weightBytes(graph: Graph, compute: DType): number {
  return [...graph.externals.values()].reduce(
    (sum, { shape }) => sum + shape.reduce((count, dim) => count * dim, ELEMENT[compute].bytes),
    0,
  );
}

/** A tile in features: the region that is computed, and the part of it that is kept. */
interface Tile {
  readonly region: Box;
  readonly kept: Box;
}

interface Box {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** Tensors that are tiled: planes f32 [1, channels, height, width], or pixels u8 [1, height, width, channels]. */
type Tiled = Tensor<"float32"> | Tensor<"uint8">;

/** Runs the local part of a network on every tile and joins the kept parts. `from` and `to`: input and output elements per feature, along a side. */
export async function inTiles<Result extends Tiled>(
  input: Tensor<"float32">,
  { tile, reach, from, to }: { tile: number; reach: LocalReach; from: number; to: number },
  run: (part: Tensor<"float32">, place: { readonly index: number; readonly total: number }) => Promise<Result>,
): Promise<Result> {
  const [height, width] = input.shape.slice(2) as [number, number];
  const area: Area = [height / from, width / from];
  const tiles = tilesOf(area, tile, reach);
  let joined: Result | undefined;
  for (const [index, { region, kept }] of tiles.entries()) {
    const part = await run(cut(input, scaled(region, from)), { index, total: tiles.length });
    joined ??= blank(part, [area[0] * to, area[1] * to]);
    const inside = { ...kept, top: kept.top - region.top, left: kept.left - region.left };
    copy({ of: part, at: scaled(inside, to) }, { of: joined, at: scaled(kept, to) });
  }
  return joined!;
}

// Regions have equal sizes, so that cuDNN chooses its convolution algorithms once.
function tilesOf(area: Area, tile: number, reach: LocalReach): Tile[] {
  const [height, width] = regionOf(area, tile, reach);
  const starts = (length: number) => Array.from({ length: Math.ceil(length / tile) }, (_, index) => index * tile);
  const regionStart = (start: number, region: number, length: number) =>
    Math.min(Math.max(start - reach.margin, 0), length - region);
  return starts(area[0]).flatMap((top) =>
    starts(area[1]).map((left) => ({
      region: { top: regionStart(top, height, area[0]), left: regionStart(left, width, area[1]), height, width },
      kept: { top, left, height: Math.min(tile, area[0] - top), width: Math.min(tile, area[1] - left) },
    })),
  );
}

function regionOf([height, width]: Area, tile: number, { margin }: LocalReach): Area {
  return [Math.min(height, tile + 2 * margin), Math.min(width, tile + 2 * margin)];
}

function scaled({ top, left, height, width }: Box, by: number): Box {
  return { top: top * by, left: left * by, height: height * by, width: width * by };
}

function cut(input: Tensor<"float32">, from: Box): Tensor<"float32"> {
  const part = blank(input, [from.height, from.width]);
  copy({ of: input, at: from }, { of: part, at: { ...from, top: 0, left: 0 } });
  return part;
}

function blank<T extends Tiled>({ type, shape }: T, [height, width]: Area): T {
  const wanted = type === "uint8" ? [1, height, width, shape[3]!] : [1, shape[1]!, height, width];
  return (type === "uint8" ? tensor("uint8", wanted, new Uint8Array(elementCount(wanted))) : float32(wanted)) as T;
}

/** Memory layout of a tensor: `planes` × `height` rows of `width` columns, `step` elements per column. */
function rowsOf({ type, shape }: Tiled): { planes: number; height: number; width: number; step: number } {
  const [, a, b, c] = shape as [number, number, number, number];
  return type === "uint8" ? { planes: 1, height: a, width: b, step: c } : { planes: a, height: b, width: c, step: 1 };
}

// Copies between boxes of equal size in tensors of equal layout.
function copy(source: { of: Tiled; at: Box }, target: { of: Tiled; at: Box }): void {
  const [from, to] = [rowsOf(source.of), rowsOf(target.of)];
  const { height, width } = source.at;
  for (let plane = 0; plane < from.planes; plane += 1) {
    for (let row = 0; row < height; row += 1) {
      const start = ((plane * from.height + source.at.top + row) * from.width + source.at.left) * from.step;
      target.of.data.set(
        source.of.data.subarray(start, start + width * from.step),
        ((plane * to.height + target.at.top + row) * to.width + target.at.left) * to.step,
      );
    }
  }
}
