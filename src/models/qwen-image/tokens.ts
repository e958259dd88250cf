// Latents as tokens, and where each token stands: patches of 2×2 latent cells and their rotary angles.
// ComfyUI v0.3.64 comfy/ldm/qwen_image/model.py (a125cd84): ids centred on each grid, references by index 1, 2, 3…
import { float32, type Tensor } from "../../std/tensor.js";
import { axisRotations, type RopeTables } from "../axis-rotations.js";
import type { TransformerConfig } from "./transformer-config.js";

/** A grid of tokens. */
export interface Grid {
  readonly rows: number;
  readonly columns: number;
}

/** A grid and where it stands: its frame, and how far it is moved from the centre. Left out, a frame of its own and no move. */
interface PlacedGrid extends Grid {
  readonly frame?: number;
  readonly down?: number;
  readonly right?: number;
}

/** Tokens of a latent [1, channels, h, w]; odd sides are padded by one. */
export function latentGrid(latent: Tensor, patchSize: number): Grid {
  const [height, width] = latent.shape.slice(-2) as [number, number];
  return { rows: Math.ceil(height / patchSize), columns: Math.ceil(width / patchSize) };
}

/**
 * Cuts latents [1, channels, h, w] into tokens, one latent after the other: [1, tokens, channels·patch²], features in the
 * order channel, row, column. Odd sides wrap around (circular padding on the right and bottom).
 */
export function patchify(
  latents: readonly Tensor<"float32">[],
  { patchSize, patchWidth }: PatchSizes,
): Tensor<"float32"> {
  const grids = latents.map((latent) => latentGrid(latent, patchSize));
  const count = grids.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  const tokens = new Float32Array(count * patchWidth);
  let at = 0;
  latents.forEach((latent, index) => {
    const [height, width] = latent.shape.slice(-2) as [number, number];
    const { rows, columns } = grids[index]!;
    eachCell({ rows, columns }, { patchSize, patchWidth }, (channel, y, x) => {
      tokens[at++] = latent.data[(channel * height + (y % height)) * width + (x % width)]!;
    });
  });
  return float32([1, count, patchWidth], tokens);
}

/** The inverse of patchify for one latent of shape [1, channels, h, w]; padding is cut off. */
export function unpatchify(
  tokens: Tensor<"float32">,
  shape: readonly number[],
  config: TransformerConfig,
): Tensor<"float32"> {
  const [height, width] = shape.slice(-2) as [number, number];
  const latent = float32(shape);
  const grid = { rows: Math.ceil(height / config.patchSize), columns: Math.ceil(width / config.patchSize) };
  let at = 0;
  eachCell(grid, config, (channel, y, x) => {
    if (y < height && x < width) latent.data[(channel * height + y) * width + x] = tokens.data[at]!;
    at += 1;
  });
  return latent;
}

type PatchSizes = Pick<TransformerConfig, "patchSize" | "patchWidth">;

// Visits latent cells in the order of tokens and their features.
function eachCell(
  { rows, columns }: Grid,
  { patchSize, patchWidth }: PatchSizes,
  visit: (channel: number, y: number, x: number) => void,
): void {
  const channels = patchWidth / patchSize ** 2;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        for (let dy = 0; dy < patchSize; dy += 1) {
          for (let dx = 0; dx < patchSize; dx += 1) visit(channel, row * patchSize + dy, column * patchSize + dx);
        }
      }
    }
  }
}

/** The grids of target and references, placed as the configuration says. */
export function placedGrids(
  target: Tensor,
  references: readonly Tensor[],
  config: TransformerConfig,
): readonly [PlacedGrid, ...PlacedGrid[]] {
  const gridOf = (latent: Tensor) => latentGrid(latent, config.patchSize);
  if (!config.referencesInOneFrame) return [gridOf(target), ...references.map(gridOf)];
  return [gridOf(target), ...sideBySide(references, config)];
}

// Each reference goes beside those before it, or below them where all together stay less tall than wide. Counted in latent cells.
function sideBySide(references: readonly Tensor[], { patchSize }: TransformerConfig): PlacedGrid[] {
  const inTokens = (cells: number) => Math.floor((cells + Math.floor(patchSize / 2)) / patchSize);
  let [height, width] = [0, 0];
  return references.map((latent) => {
    const [rows, columns] = latent.shape.slice(-2) as [number, number];
    const [down, right] = rows + height > columns + width ? [0, width] : [height, 0];
    [height, width] = [Math.max(height, rows + down), Math.max(width, columns + right)];
    return { ...latentGrid(latent, patchSize), frame: 1, down: inTokens(down), right: inTokens(right) };
  });
}

/** Rotary tables of every token, text first, then the target, then the references: for a prompt of `text` tokens and the grids; angles in float64. */
export function ropeTables(
  text: number,
  [target, ...references]: readonly [PlacedGrid, ...PlacedGrid[]],
  config: TransformerConfig,
): RopeTables {
  // Text goes on along the diagonal from the edge of the target's grid.
  const start = Math.max(Math.floor(target.rows / 2), Math.floor(target.columns / 2));
  const positions: number[][] = Array.from({ length: text }, (_, index) => [
    start + index,
    start + index,
    start + index,
  ]);
  [target, ...references].forEach(({ rows, columns, frame, down = 0, right = 0 }, index) => {
    for (let row = down; row < rows + down; row += 1) {
      for (let column = right; column < columns + right; column += 1) {
        positions.push([frame ?? index, row - Math.floor(rows / 2), column - Math.floor(columns / 2)]);
      }
    }
  });
  return axisRotations(positions, config);
}
