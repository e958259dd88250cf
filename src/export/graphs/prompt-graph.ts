// The exported model of the text encoder: tokens and patches to the embeddings of a prompt. Vision tower, merge and language model are one graph.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { Weights } from "../../checkpoint/weights.js";
import { loop } from "../../graph/control-flow.js";
import type { Graph } from "../../graph/graph.js";
import { compress, cumulativeSum, gather, part, refuseUnless, unsqueeze, where } from "../../graph/indexing.js";
import { type DType, multiplyDims } from "../../graph/types.js";
import { concat, type Value } from "../../graph/value.js";
import type { ConfigJson } from "../../models/config-json.js";
import { tokenEmbeddings } from "../../models/qwen2.5-vl/token-embeddings.js";
import { refuseSmallVocabulary } from "../../stages/networks/embed-prompt.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import { PROMPT_TEMPLATES } from "../../text/prompt-templates.js";
import type { ExportedModel } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";
import { describedGraph } from "./described-graph.js";
import { type PictureGrids, type PromptLayout, pictureGrids, promptLayout } from "./prompt-layout.js";
import { type PromptNetworks, promptNetworks } from "./prompt-networks.js";
import { refuseNonFinite } from "./violations.js";

/** A text encoder and how it is exported. */
export interface ExportedTextEncoder {
  readonly checkpoint: Checkpoint;
  readonly config: ConfigJson;
  readonly compute: DType;
}

/** `encode_prompt`. Throws QEDIT_E_CHECKPOINT for a text encoder without a vision tower, or with too small a vocabulary. */
export function encodePromptGraph(
  tensors: ModelTensors,
  { checkpoint, config, compute }: ExportedTextEncoder,
): ExportedModel {
  const numbers = numbersOf(checkpoint);
  const networks = promptNetworks(numbers, config);
  const { vision, conventions } = networks;
  refuseSmallVocabulary(checkpoint);
  const [vocabulary] = numbers.shape("model.embed_tokens.weight") as [number];
  const values = vision.channels * vision.temporalPatchSize * vision.patchSize ** 2;
  return describedGraph(tensors, {
    shapes: { input_ids: [1, "all"], pixel_values: ["patches", values], image_grid_thw: ["images", 3] },
    optimization: "none",
    build({ input_ids: ids, pixel_values: pixels, image_grid_thw: grid }, graph) {
      const w = Weights.of(graph, checkpoint);
      const pictures = pictureGrids(grid!, pixels!.shapeValue(0, 1), vision);
      const { dropsUserLine } = PROMPT_TEMPLATES[conventions.template];
      const rules = { vocabulary, dropsUserLine };
      const layout = promptLayout(ids!, pictures, rules);
      const [embeds, ...features] = seenPictures(pixels!, pictures, { graph, w, networks, compute });
      const places = placesOf(layout, embeds!);
      const isPicture = unsqueeze(layout.isPicture.equals(1), 1);
      const states = networks.read(
        {
          embeds: where(isPicture, rowsAt(embeds!, places), tokenEmbeddings(layout.ids, w)).cast(compute),
          features: features.map((each) => rowsAt(each, places).cast(compute)),
          positions: layout.positions,
        },
        w,
        compute,
      );
      if (conventions.keepsImageTokens) return { prompt_embeds: refuseNonFinite(seenStates(states, layout), STATES) };
      return {
        prompt_embeds: refuseNonFinite(wordStates(states, layout), STATES),
        image_positions: layout.wordsBefore.sub(layout.dropped),
      };
    },
  });
}

const STATES = "the embeddings of the prompt";

interface Encoder {
  readonly graph: Graph;
  readonly w: Weights;
  readonly networks: PromptNetworks;
  readonly compute: DType;
}

// Embeddings f32 [image tokens, width] of all pictures, and their features for each of the first layers. The tower sees one picture after the other, as
// encode-prompt runs it.
function seenPictures(
  given: Value,
  { rows, columns, patches }: PictureGrids,
  { graph, w, networks, compute }: Encoder,
): readonly Value[] {
  const { vision, width, features } = networks;
  const ends = cumulativeSum(patches);
  const pixels = refuseUnless(
    given,
    given.shapeValue(0, 1).sub(patches.sum().reshape([1])),
    "pixel_values must have a row for each patch of image_grid_thw",
  );
  const carried = Array.from({ length: 1 + features }, (_, index) => ({
    initial: graph.constant("f32", [0, width], []),
    shape: [index === 0 ? "image tokens so far" : `feature ${index} so far`, width],
    result: ["image tokens", width],
  }));
  const all = loop(graph, { trips: rows.shapeValue(), carried }, (before, index) => {
    const [end, count] = [gather(ends, index), gather(patches, index)];
    const length = multiplyDims(vision.mergeSize ** 2, "tokens");
    const own = part(pixels, { axis: 0, start: end.sub(count), end, length });
    const grid = { rows: gather(rows, index), columns: gather(columns, index), count, length };
    const seen = networks.see({ pixels: own.cast(compute), grid }, w);
    return seen.map((each, at) => concat([before[at]!, each], 0));
  });
  return all.map((each) => refuseNonFinite(each, "what the vision tower sees"));
}

// The row of each token among those of pictures, i64 [seen]: words take a row of zeros behind them, which there also is without any.
function placesOf({ isPicture, before }: PromptLayout, pictures: Value): Value {
  return where(isPicture.equals(1), before, pictures.shapeValue(0, 1));
}

function rowsAt(pictures: Value, places: Value): Value {
  const width = Number(pictures.dim(1));
  const zeros = pictures.graph.constant("f32", [1, width], new Array<number>(width).fill(0));
  return gather(concat([pictures, zeros], 0), places);
}

function seenStates(states: Value, { dropped, count }: PromptLayout): Value {
  return part(states, { axis: 1, start: dropped, end: count, length: "kept" });
}

// Without the tokens of pictures, whose places the transformer's own take.
function wordStates(states: Value, layout: PromptLayout): Value {
  const isWord = part(layout.isPicture, { axis: 0, start: layout.dropped, end: layout.count, length: "kept" }).equals(
    0,
  );
  return compress(seenStates(states, layout), isWord, { axis: 1, length: "words" });
}
