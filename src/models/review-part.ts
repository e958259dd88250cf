// Whether a checkpoint can be run as a part of a model, and whether all of it is read: from its header alone.
import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { packedFormat } from "../checkpoint/packed-formats.js";
import type { ModelPart } from "../checkpoint/published-names.js";
import { checkpointConfig } from "../checkpoint/safetensors/safetensors.js";
import { IDLE_BESIDE_WEIGHTS, isNarrow, SCALE_NAMES, scaleNameOf } from "../checkpoint/weight-scales.js";
import { Weights } from "../checkpoint/weights.js";
import { Graph } from "../graph/graph.js";
import { param, QeditError } from "../std/errors.js";
import type { TextEncoderFamily } from "./text-encoder-family.js";
import { textEncoderOf } from "./text-encoders.js";
import { transformerOf } from "./transformers.js";
import { buildVaeDecoder, buildVaeEncoder, isIdleInVae, vaeConfig } from "./vaes.js";

/** A part's name in messages, and the file of the default model that serves for it. */
const PARTS = {
  vae: { name: "VAE", instead: param("vae", "qwen_image_vae.safetensors") },
  text_encoder: { name: "text encoder", instead: param("text_encoder", "qwen_2.5_vl_7b_fp8_scaled.safetensors") },
  transformer: { name: "transformer", instead: param("transformer", "qwen_image_edit_2509_fp8_e4m3fn.safetensors") },
} as const satisfies Readonly<Record<ModelPart, unknown>>;

/** Which kernel ComfyUI computes an attention with, as in the Turbo release of Qwen-Image-2.1: not what it computes. */
const ATTENTION_KERNEL = /\.comfy_attention\.config$/;

/** Names that a message shows. */
const SHOWN_NAMES = 3;

/** The tensors of a part that no graph reads and that no list excuses. */
export interface PartReview {
  readonly unread: readonly string[];
  /** What a warning says of them; undefined when there are none. */
  readonly warning: string | undefined;
}

/**
 * Reviews a checkpoint under the published keys of its part. Throws QEDIT_E_CHECKPOINT when it is of another model or format, which its
 * message names, when the shapes of its tensors do not fit each other, when a tensor beside 8-bit weights is not read, which may be a scale,
 * and when some of them lack theirs.
 */
export function reviewPart(checkpoint: Checkpoint, part: ModelPart): PartReview {
  const { name, instead } = PARTS[part];
  const format = packedFormat(checkpoint);
  if (format !== undefined) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${checkpoint.file} as the ${name}: its weights are stored as ${format}, which qedit does not compute`,
      { hint: `Take it in bf16 or fp8: ${instead}, by \`qedit models pull\`` },
    );
  }
  refuseMissingScales(checkpoint, part);
  const unread = unreadTensors(checkpoint, part).filter((name) => !ATTENTION_KERNEL.test(name));
  if (unread.length === 0) return { unread, warning: undefined };
  const names = shownNames(unread);
  if ([...checkpoint.tensors.values()].some(isNarrow)) {
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${checkpoint.file} as the ${name}: nothing reads ${names}, and beside 8-bit weights that may be a scale`,
      { hint: `Take it in bf16, or in fp8 with scales that qedit knows: ${instead}, by \`qedit models pull\`` },
    );
  }
  return { unread, warning: `${checkpoint.file}: the ${name} reads nothing of ${names}` };
}

// Quantisers choose weights by their place in a block: where other blocks have a scale in the same place, one without it lost it. By its size alone
// it may pass for a weight without scale.
function refuseMissingScales({ file, tensors }: Checkpoint, part: ModelPart): void {
  const narrow = [...tensors].filter(([name, stored]) => name.endsWith(".weight") && isNarrow(stored));
  const hasScale = ([name]: (typeof narrow)[number]) => scaleNameOf(tensors, name) !== undefined;
  const scaled = new Set(narrow.filter(hasScale).map(([name]) => placeOf(name)));
  const bare = narrow.filter((each) => !hasScale(each) && scaled.has(placeOf(each[0]))).map(([name]) => name);
  if (bare.length === 0) return;
  const { name, instead } = PARTS[part];
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${file} as the ${name}: ${shownNames(bare)} lacks the scale that other blocks have`,
    { hint: `Take a file that has all its scales: ${instead}, by \`qedit models pull\`` },
  );
}

// What a tensor is called in every block.
function placeOf(name: string): string {
  return name.replace(/\.\d+\./g, ".*.");
}

// A linear without its bias would be computed without a word: where other blocks have one, or all files of the family, it lost it.
function refuseMissingBiases(
  { checkpoint: { file, tensors }, part }: Reviewed,
  { isBiased, isIdle }: Pick<TextEncoderFamily, "isBiased" | "isIdle">,
): void {
  const modules = [...tensors.keys()].filter((name) => name.endsWith(".weight")).map((name) => name.slice(0, -7));
  const places = new Set([...tensors.keys()].filter((name) => name.endsWith(".bias")).map(placeOf));
  const isElsewhere = (module: string) => places.has(placeOf(`${module}.bias`));
  const bare = modules.filter(
    (module) =>
      !tensors.has(`${module}.bias`) && !isIdle(`${module}.bias`) && (isBiased(module) || isElsewhere(module)),
  );
  if (bare.length === 0) return;
  const { name, instead } = PARTS[part];
  const biases = shownNames(bare.map((module) => `${module}.bias`));
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${file} as the ${name}: it has no ${biases}, which ${bare.every(isElsewhere) ? "other blocks have" : "its network has"}`,
    { hint: `Take it from its publisher again, or another one: ${instead}, by \`qedit models pull\`` },
  );
}

function shownNames(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_NAMES).map((each) => `"${each}"`);
  return `${shown.join(", ")}${names.length > SHOWN_NAMES ? ` and ${names.length - SHOWN_NAMES} more` : ""}`;
}

function unreadTensors(checkpoint: Checkpoint, part: ModelPart): readonly string[] {
  const numbers = Weights.of(new Graph("numbers"), checkpoint);
  let weights = numbers;
  const used = (build: (graph: Graph, w: Weights) => void) => {
    const graph = new Graph("what is read");
    weights = Weights.of(graph, checkpoint);
    build(graph, weights);
    return weights.unused();
  };
  try {
    return unreadBy(used, { checkpoint, part, numbers });
  } catch (cause) {
    if (cause instanceof QeditError) throw cause;
    const { name, instead } = PARTS[part];
    const at = weights.lastRead();
    const where = at === undefined ? "" : `, found at "${at}" [${checkpoint.tensors.get(at)!.shape.join(", ")}]`;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${checkpoint.file} as the ${name}: the shapes of its tensors do not fit each other or its configuration${where}`,
      { hint: `Take it from its publisher again, or another one: ${instead}, by \`qedit models pull\``, cause },
    );
  }
}

interface Reviewed {
  readonly checkpoint: Checkpoint;
  readonly part: ModelPart;
  readonly numbers: Weights;
}

function unreadBy(
  used: (build: (graph: Graph, w: Weights) => void) => readonly string[],
  reviewed: Reviewed,
): readonly string[] {
  const { checkpoint, part, numbers } = reviewed;
  const config = checkpointConfig(checkpoint);
  const compute = "f32";
  if (part === "vae") {
    vaeConfig(numbers);
    const encoder = new Set(used((graph, w) => buildVaeEncoder(graph, w)));
    return used((graph, w) => buildVaeDecoder(graph, w)).filter((name) => encoder.has(name) && !isIdleInVae(name));
  }
  if (part === "transformer") {
    const transformer = transformerOf(numbers, config);
    refuseMissingBiases(reviewed, transformer);
    const unused = used((graph, w) => transformer.build(graph, w, { compute, part: "whole", references: 1 }));
    return unused.filter((name) => !transformer.isMarker(name) && !transformer.isIdle(name));
  }
  const family = textEncoderOf(numbers);
  const languageConfig = family.languageConfig(numbers, config);
  refuseMissingBiases(reviewed, family);
  refuseOtherEmbeddings(checkpoint, languageConfig.width);
  const language = used((graph, w) => family.buildLanguageModel(graph, w, { config: languageConfig, compute })).filter(
    (name) => !family.isIdle(name) && !isBesideEmbedding(name),
  );
  if (!numbers.has("visual")) return language;
  const vision = used((graph, w) =>
    family.buildVisionTower(graph, w, { config: family.visionConfig(numbers, config), compute }),
  );
  const notInTower = new Set(vision);
  return language.filter((name) => notInTower.has(name));
}

// No graph reads the embeddings, so that none would miss a length.
function refuseOtherEmbeddings({ file, tensors }: Checkpoint, width: number): void {
  const shape = tensors.get("model.embed_tokens.weight")?.shape;
  if (shape === undefined || (shape.length === 2 && shape[1] === width)) return;
  const { name, instead } = PARTS.text_encoder;
  throw new QeditError(
    "QEDIT_E_CHECKPOINT",
    `Cannot use ${file} as the ${name}: "model.embed_tokens.weight" [${shape.join(", ")}] has no rows of ${width} numbers`,
    { hint: `Take it from its publisher again, or another one: ${instead}, by \`qedit models pull\`` },
  );
}

// Embeddings are looked up outside the graphs, with their scale.
function isBesideEmbedding(name: string): boolean {
  const idle = IDLE_BESIDE_WEIGHTS.flatMap(({ names }) => names);
  return [...SCALE_NAMES, ...idle].some((each) => name === `model.embed_tokens.${each}`);
}
