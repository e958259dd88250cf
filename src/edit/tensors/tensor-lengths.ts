// The sizes and lengths of an edit by tensors, for its memory plan.
import { textEncoderNamed } from "../../models/text-encoders.js";
import { templateOf } from "../../stages/networks/embed-prompt.js";
import type { MemoryLengths } from "../plan/edit-memory.js";
import type { PlannedNetworks } from "../plan/networks.js";
import type { EditTensors } from "./edit-tensors.js";

/** The lengths of an edit by tensors. */
export function tensorLengths(
  { pictures, ids, negativeIds, patches, noise }: EditTensors,
  { vae, vision, sampled }: Pick<PlannedNetworks, "vae" | "vision" | "sampled">,
): MemoryLengths {
  const seen = patches.map(({ grid: [, rows, columns] }) => (rows * columns) / vision.mergeSize ** 2);
  const expanded = seen.reduce((sum, count) => sum + count - 1, 0);
  const { keepsImageTokens } = textEncoderNamed(vision.family).conventions;
  const leftOut = keepsImageTokens ? 0 : seen.reduce((sum, count) => sum + count, 0);
  const prompt = (tokens: readonly number[]) => {
    const total = tokens.length + expanded;
    return { total, seen: total - leftOut - templateOf(vision.family).dropIndex(tokens) };
  };
  const cells = ([height, width]: readonly [number, number]) =>
    Math.ceil(height / sampled.patchSize) * Math.ceil(width / sampled.patchSize);
  const [rows, columns] = noise.shape.slice(2) as [number, number];
  const { spatialRatio } = vae;
  return {
    sizes: {
      target: { size: { width: columns * spatialRatio, height: rows * spatialRatio } },
      images: pictures.map(({ image: { width, height } }, index) => ({
        reference: { size: { width, height } },
        vision: { tokens: seen[index]! },
      })),
    },
    tokens: {
      prompt: prompt(ids),
      negativePrompt: negativeIds && prompt(negativeIds),
      target: cells([rows, columns]),
      references: pictures.map(({ image: { width, height } }) => cells([height / spatialRatio, width / spatialRatio])),
    },
  };
}
