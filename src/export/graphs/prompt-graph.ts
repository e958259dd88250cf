// The exported model of the text encoder: tokens and patches to the embeddings of a prompt. Vision tower, merge and language model are one graph.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { Weights } from "../../checkpoint/weights.js";
import { loop } from "../../graph/control-flow.js";
import type { Graph } from "../../graph/graph.js";
import { cumulativeSum, divided, gather, part, range, refuseUnless, unsqueeze, where } from "../../graph/indexing.js";
import { type DType, multiplyDims } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import type { ConfigJson } from "../../models/config-json.js";
import { anglesOf, rotations } from "../../models/qwen-image/latent-tokens.js";
import { languageStates } from "../../models/qwen2.5-vl/language.js";
import {
  type LanguageConfig,
  languageConfig,
  type VisionConfig,
  visionConfig,
} from "../../models/qwen2.5-vl/text-encoder-config.js";
import { tokenEmbeddings } from "../../models/qwen2.5-vl/token-embeddings.js";
import { VISION_ROPE_THETA, visionEmbeds, windowSide } from "../../models/qwen2.5-vl/vision.js";
import { refuseSmallVocabulary } from "../../stages/networks/embed-prompt.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import type { ExportedModel } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";
import { describedGraph } from "./described-graph.js";
import { type PictureGrids, type PromptLayout, pictureGrids, promptLayout } from "./prompt-layout.js";
import { refuseNonFinite } from "./violations.js";

/** A text encoder and how it is exported. */
export interface ExportedTextEncoder {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigJson;
  readonly compute: DType;
}

interface Encoder {
  readonly w: Weights;
  readonly language: LanguageConfig;
  readonly vision: VisionConfig;
  readonly compute: DType;
}

/** `encode_prompt`. Throws QEDIT_E_CHECKPOINT for a text encoder without a vision tower, or with too small a vocabulary. */
export function encodePromptGraph(
  tensors: ModelTensors,
  { checkpoint, config, compute }: ExportedTextEncoder,
): ExportedModel {
  const numbers = numbersOf(checkpoint);
  const [language, vision] = [languageConfig(numbers, config), visionConfig(numbers, config)];
  refuseSmallVocabulary(checkpoint);
  const [vocabulary] = numbers.shape("model.embed_tokens.weight") as [number];
  const values = vision.channels * vision.temporalPatchSize * vision.patchSize ** 2;
  return describedGraph(tensors, {
    shapes: { input_ids: [1, "all"], pixel_values: ["patches", values], image_grid_thw: ["images", 3] },
    optimization: "none",
    build({ input_ids: ids, pixel_values: pixels, image_grid_thw: grid }, graph) {
      const encoder = { w: Weights.of(graph, checkpoint), language, vision, compute };
      const pictures = pictureGrids(grid!, vision);
      const layout = promptLayout(ids!, pictures, vocabulary);
      const seen = seenPictures(pixels!, pictures, { graph, encoder });
      const states = languageStates(withPictures(seen, layout, encoder).cast(compute), encoder.w, {
        config: language,
        rope: languageRope(layout, encoder),
      });
      const kept = { axis: 1, start: layout.dropped, end: layout.count, length: "kept" };
      return { prompt_embeds: refuseNonFinite(part(states, kept), "the embeddings of the prompt") };
    },
  });
}

// Embeddings f32 [image tokens, width] of all pictures. The tower sees one after the other, as encode-prompt runs it.
function seenPictures(
  given: Value,
  { rows, columns, patches }: PictureGrids,
  { graph, encoder: { w, language, vision, compute } }: { graph: Graph; encoder: Encoder },
): Value {
  const ends = cumulativeSum(patches);
  const pixels = refuseUnless(
    given,
    given.shapeValue(0, 1).sub(patches.sum().reshape([1])),
    "pixel_values must have a row for each patch of image_grid_thw",
  );
  const carried = [
    {
      initial: graph.constant("f32", [0, language.width], []),
      shape: ["image tokens so far", language.width],
      result: ["image tokens", language.width],
    },
  ];
  const [embeds] = loop(graph, { trips: rows.shapeValue(), carried }, ([seen], index) => {
    const [end, count] = [gather(ends, index), gather(patches, index)];
    const length = multiplyDims(vision.mergeSize ** 2, "tokens");
    const own = part(pixels, { axis: 0, start: end.sub(count), end, length });
    const geometry = geometryOf({ rows: gather(rows, index), columns: gather(columns, index), count, length }, vision);
    const inputs = {
      pixels: own.cast(compute),
      rope: { cos: geometry.rope.cos.cast(compute), sin: geometry.rope.sin.cast(compute) },
      mask: geometry.mask.cast(compute),
    };
    return [concat([seen!, visionEmbeds(inputs, w, vision)], 0)];
  });
  return refuseNonFinite(embeds!, "what the vision tower sees");
}

interface OnePicture {
  /** i64 [1], in patches. */
  readonly rows: Value;
  readonly columns: Value;
  readonly count: Value;
  /** Name of the count. */
  readonly length: string | number;
}

// See visionGeometry: patches come in the order of merged tokens.
function geometryOf(
  { columns, count, length }: OnePicture,
  config: VisionConfig,
): { rope: { cos: Value; sin: Value }; mask: Value } {
  const { mergeSize, width, heads } = config;
  const token = divided(range(count, length), mergeSize ** 2);
  const block = divided(token.quotient, columns.div(mergeSize));
  const inside = divided(token.remainder, mergeSize);
  const row = block.quotient.mul(mergeSize).add(inside.quotient);
  const column = block.remainder.mul(mergeSize).add(inside.remainder);

  const quarter = width / heads / 4;
  const frequencies = Array.from({ length: quarter }, (_, k) => VISION_ROPE_THETA ** (-k / quarter));
  const rope = rotations([anglesOf(row, frequencies), anglesOf(column, frequencies)]);

  const side = windowSide(config);
  const across = columns.add(side - 1).div(side);
  const window = row.div(side).mul(across).add(column.div(side));
  const isOwn = unsqueeze(window, 1).equals(unsqueeze(window, 0));
  const limit = (number: number) => row.graph.constant("f32", [], [number]);
  const mask = where(isOwn, limit(0), limit(Number.NEGATIVE_INFINITY));
  return { rope, mask: unsqueeze(unsqueeze(mask, 0), 0) };
}

// The embeddings of all tokens f32 [seen, width], those of pictures in their places.
function withPictures(pictures: Value, { ids, isPicture, before }: PromptLayout, { w, language }: Encoder): Value {
  const { graph } = ids;
  const words = tokenEmbeddings(ids, w);
  const isSeen = isPicture.equals(1);
  // Words take a row of zeros behind the pictures, which there also is without any.
  const rows = concat(
    [pictures, graph.constant("f32", [1, language.width], new Array<number>(language.width).fill(0))],
    0,
  );
  const places = where(isSeen, before, pictures.shapeValue(0, 1));
  return where(unsqueeze(isSeen, 1), gather(rows, places), words);
}

// See multimodalRope: pair k is rotated by the axis whose section it lies in.
function languageRope({ positions }: PromptLayout, { language, compute }: Encoder): { cos: Value; sin: Value } {
  const { ropeSections, ropeTheta, headDim } = language;
  let first = 0;
  const angles = ropeSections.map((section, axis) => {
    const frequencies = Array.from({ length: section }, (_, k) => ropeTheta ** ((-2 * (first + k)) / headDim));
    first += section;
    return anglesOf(positions[axis]!, frequencies);
  });
  const { cos, sin } = rotations(angles);
  return { cos: cos.cast(compute), sin: sin.cast(compute) };
}
