// The exported models of the VAE: bytes of a picture to a normalised latent, and back. What encode-image and decode do around their networks is inside.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { Weights } from "../../checkpoint/weights.js";
import { choose } from "../../graph/control-flow.js";
import { divided, nonFinite, refuseUnless, squeeze, unsqueeze } from "../../graph/indexing.js";
import { type DType, multiplyDims } from "../../graph/types.js";
import type { Value } from "../../graph/value.js";
import type { LatentStatistics } from "../../models/vae-family.js";
import { imageBytes } from "../../models/vae-networks.js";
import { decodedImage, encodedLatent, vaeConfig } from "../../models/vaes.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import type { ExportedModel } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";
import { describedGraph } from "./described-graph.js";
import { refuseNonFinite } from "./violations.js";

/** A VAE and how it is exported. */
export interface ExportedVae {
  readonly checkpoint: Checkpoint;
  readonly statistics: LatentStatistics;
  readonly compute: DType;
}

/** Largest value of a byte. */
const WHITE = 255;

/** `encode_image` */
export function encodeImageGraph(
  tensors: ModelTensors,
  { checkpoint, statistics, compute }: ExportedVae,
): ExportedModel {
  const { spatialRatio: cell, imageChannels } = vaeConfig(numbersOf(checkpoint));
  return describedGraph(tensors, {
    shapes: { image: [multiplyDims(cell, "h"), multiplyDims(cell, "w"), imageChannels] },
    optimization: "full",
    build({ image }, graph) {
      const rest = [0, 1].map((axis) => divided(image!.shapeValue(axis, axis + 1), cell).remainder);
      const whole = refuseUnless(image!, rest[0]!.add(rest[1]!), `sides of image must be multiples of ${cell}`);
      const planes = unsqueeze(whole.cast("f32").div(WHITE).transpose([2, 0, 1]), 0);
      const w = Weights.of(graph, checkpoint);
      const latent = inVaeType(compute, (type) => encodedLatent(planes, w, type));
      const { mean, std } = statisticsOf(latent, statistics);
      return { latent: refuseNonFinite(latent.sub(mean).div(std), "the latent"), vae_latent: latent };
    },
  });
}

/** `decode` */
export function decodeGraph(tensors: ModelTensors, { checkpoint, statistics, compute }: ExportedVae): ExportedModel {
  const { latentChannels } = vaeConfig(numbersOf(checkpoint));
  return describedGraph(tensors, {
    shapes: { latents: [1, latentChannels, "h", "w"] },
    optimization: "full",
    build({ latents }, graph) {
      const { mean, std } = statisticsOf(latents!, statistics);
      const [w, latent] = [Weights.of(graph, checkpoint), latents!.mul(std).add(mean)];
      const raw = inVaeType(compute, (type) => decodedImage(latent, w, type));
      return { image: squeeze(imageBytes(refuseNonFinite(raw, "the picture"), "round"), 0) };
    },
  });
}

// As the stages: what is broken in 16 bits is computed once more in float32.
function inVaeType(compute: DType, run: (type: DType) => Value): Value {
  const result = run(compute);
  if (compute === "f32") return result;
  return choose(nonFinite(result).equals(1), { yes: () => run("f32"), no: () => result });
}

function statisticsOf({ graph }: Value, { mean, std }: LatentStatistics): { mean: Value; std: Value } {
  const list = (numbers: readonly number[]) => graph.constant("f32", [1, numbers.length, 1, 1], numbers);
  return { mean: list(mean), std: list(std) };
}
