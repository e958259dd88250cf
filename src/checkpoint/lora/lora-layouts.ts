// The key spellings under which adapter files name the modules of a diffusion model and the parts of what they do to them.
// https://github.com/comfyanonymous/ComfyUI/blob/a125cd84/comfy/lora.py (model_lora_keys_unet), comfy/weight_adapter/; PEFT 0.21, LyCORIS 4.1

/** Parts of a module's adapter; those of LyCORIS are called as in its keys. */
export type PartName =
  | "up"
  | "down"
  | "up_bias"
  | "hada_w1_a"
  | "hada_w1_b"
  | "hada_w2_a"
  | "hada_w2_b"
  | "lokr_w1"
  | "lokr_w1_a"
  | "lokr_w1_b"
  | "lokr_w2"
  | "lokr_w2_a"
  | "lokr_w2_b"
  | "oft_blocks"
  | "boft_blocks"
  | "rescale"
  | "oft_R"
  | "boft_R"
  | "boft_s"
  | "diff"
  | "diff_b"
  | "magnitude"
  | "alpha";

/** Suffixes of the keys of a module's two matrices, and the usual name of files that have them. */
export interface PairLayout {
  readonly name: string;
  /** Suffix of the matrix [out, rank]. */
  readonly up: string;
  /** Suffix of the matrix [rank, in]. */
  readonly down: string;
}

/** Suffix pairs. PEFT puts the name of an adapter, `default` or another, before `.weight` where one was not taken off. */
export const PAIR_LAYOUTS: readonly PairLayout[] = [
  { name: "kohya", up: ".lora_up.weight", down: ".lora_down.weight" },
  { name: "diffusers 0.1x", up: "_lora.up.weight", down: "_lora.down.weight" },
  { name: "PEFT", up: ".lora_B.weight", down: ".lora_A.weight" },
  { name: "diffusers", up: ".lora.up.weight", down: ".lora.down.weight" },
  { name: "Mochi", up: ".lora_B", down: ".lora_A" },
  { name: "transformers", up: ".lora_linear_layer.up.weight", down: ".lora_linear_layer.down.weight" },
];

/** What a key of an adapter file says: the part of a module, under the module's name in this file. */
export interface AdapterKey {
  /** The key without its ending. */
  readonly module: string;
  readonly part: PartName;
  /** The spelling of the ending, where it tells one. */
  readonly layout?: string;
  /** The name that PEFT gave the adapter, if the key has one. */
  readonly adapterName?: string;
}

/** Endings of other parts than pairs; `name` is PEFT's name of the adapter. */
const ENDINGS: readonly (readonly [ending: RegExp, part: PartName | undefined, layout?: string])[] = [
  [/\.lora_B\.(?!weight$|bias$)(?<name>[^.]+)\.weight$/, "up", "PEFT with adapter name"],
  [/\.lora_A\.(?!weight$|bias$)(?<name>[^.]+)\.weight$/, "down", "PEFT with adapter name"],
  [
    /(?:\.lora_B(?:\.(?!weight$|bias$)(?<name>[^.]+))?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.bias$/,
    "up_bias",
  ],
  [/\.alpha$/, "alpha"],
  [/\.dora_scale$/, "magnitude"],
  [/\.lora_magnitude_vector(?:\.(?!weight$)(?<name>[^.]+))?(?:\.weight)?$/, "magnitude"],
  [/\.(?:diff|w_norm)$/, "diff", "differences"],
  [/\.(?:diff_b|b_norm)$/, "diff_b"],
  [/\.(?<part>hada_w[12]_[ab])(?:\.(?<name>[^.]+))?$/, undefined, "LyCORIS"],
  [/\.(?<part>lokr_w[12](?:_[ab])?)(?:\.(?<name>[^.]+))?$/, undefined, "LyCORIS"],
  [/\.(?<part>oft_blocks|rescale)$/, undefined, "LyCORIS"],
  [/\.oft_R(?:\.(?!weight$)(?<name>[^.]+))?\.weight$/, "oft_R", "PEFT"],
  [/\.(?<part>boft_[Rs])(?:\.(?<name>[^.]+))?$/, undefined, "PEFT"],
];

/** Takes the ending off a key; undefined when it is of none that qedit computes with. */
export function readAdapterKey(key: string): AdapterKey | undefined {
  for (const { name, up, down } of PAIR_LAYOUTS) {
    if (key.endsWith(up)) return { module: key.slice(0, -up.length), part: "up", layout: name };
    if (key.endsWith(down)) return { module: key.slice(0, -down.length), part: "down", layout: name };
  }
  for (const [ending, part, layout] of ENDINGS) {
    const match = ending.exec(key);
    if (!match) continue;
    return {
      module: key.slice(0, match.index),
      part: part ?? (match.groups!["part"] as PartName),
      ...(layout !== undefined && { layout }),
      ...(match.groups?.["name"] !== undefined && { adapterName: match.groups["name"] }),
    };
  }
  return undefined;
}

/** Kinds of PEFT's adapters that are not computed. */
const PEFT_NAMES =
  "AdaMSS BEFT Bone C3A DEFT DeLoRA FourierFT FRoD GLoRA GraLoRA HiRA HRA IA3 Lily LN_tuning MiSS OSF PEANuT Poly PSOFT PVeRA RandLoRA RoAd Shadow SHiRA SuperTuning TinyLoRA UniLoRA VBLoRA VeRA WaveFT";
/** These by how the names of their parts begin (PEFT_TYPE_TO_PREFIX_MAPPING of PEFT 0.21). */
const PEFT_KINDS = new Map(PEFT_NAMES.split(" ").map((name) => [name.toLowerCase(), name.replace("_", " ")]));
const PEFT_PARTS = new RegExp(`\\.(${[...PEFT_KINDS.keys()].join("|")})_\\w+(\\.|$)`);

/** Keys of forms of adapters that qedit does not compute, and the names of these. */
const UNSUPPORTED: readonly (readonly [key: RegExp, form: string])[] = [
  [/\.lora_mid\./, "LoCon with lora_mid"],
  [/\.lora_embedding_[AB](\.|$)/, "LoRA of embeddings"],
  [/\.lora_A(\.\w+)?\.bias$|\.lora_down\.bias$/, "LoRA with biases before the rank"],
  [/\.reshape_weight$/, "LoRA with reshaped weights"],
  [/\.set_weight$|\.modules_to_save\./, "replaced weights"],
  [/\.(hada_t[12]|lokr_t2)(\.|$)/, "LyCORIS with Tucker factors"],
  [/\.[ab][12]\.weight$/, "GLoRA"],
  [/\.scaled_oft(\.|$)/, "scaled OFT"],
  [/\.oft_r(\.|$)/, "OFT of PEFT before 0.14"],
  [/\.oft_diag(\.|$)/, "OFT of LyCORIS before 2.0"],
  [/\.b?oft_(?!blocks$|R(\.|$)|s(\.|$))\w+(\.|$)/, "other forms of OFT"],
  [/\.on_input$/, "IA3"],
  [/\.lora_E(\.|$)/, "AdaLoRA"],
  [/\.lora_diag(\.|$)/, "KaSA"],
  [/\.[pq]_layer\.weight$/, "T-LoRA"],
];

/** The names under which a file may hold the adapter of a module such as `transformer_blocks.0.attn.to_q`. */
export function baseNames(module: string): readonly { readonly prefix: string; readonly name: string }[] {
  const underscored = module.replaceAll(".", "_");
  return [
    ...DOTTED.map((prefix) => ({ prefix, name: prefix + module })),
    ...UNDERSCORED.map((prefix) => ({ prefix, name: prefix + underscored })),
  ];
}

/**
 * Prefixes before the names of modules: of Lightning, diffusers and OneTrainer, ai-toolkit, ComfyUI's own files, PEFT itself (which ComfyUI does
 * not take), DiffSynth, and what a model is called inside of other tools' wrappers, as in checkpoints.
 */
const DOTTED = [
  ...["", "transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.", "pipe.dit."],
  ...["dit.", "unet.", "model.", "module.", "net."],
];

/** Prefixes before names with underscores for dots: of kohya and musubi-tuner, OneTrainer, and SimpleTuner. */
const UNDERSCORED = ["lora_unet_", "lora_transformer_", "lycoris_"];

/** The end of the names of projections that a trainer made one of: which rows are whose is not in the file. */
export const FUSED_PROJECTION = /(^|[._])(to_qkv|to_kv|to_added_qkv|add_qkv_proj|add_kv_proj)$/;

/** Modules that models have as one matrix or as its parts, the rows of one below those of the other: the ends of their names. */
const JOINED: readonly (readonly [whole: string, parts: readonly string[]])[] = [
  ["img_mlp.gate_up", ["img_mlp.gate_layer", "img_mlp.proj"]],
];

/** The modules of a model that are the parts, or the whole, of one of another name; none for most. */
export function otherwiseJoined(module: string): readonly string[] {
  return JOINED.flatMap(([whole, parts]) => {
    const others = module.endsWith(whole) ? parts : parts.some((part) => module.endsWith(part)) ? [whole] : [];
    const own = [whole, ...parts].find((each) => module.endsWith(each)) ?? "";
    return others.map((other) => module.slice(0, -own.length) + other);
  });
}

/** What follows the module in the keys of the forms that are not computed. */
const ENDING =
  /(\.lora_(A|B|E|diag|up|down|mid|magnitude_vector|linear_layer|embedding_[AB])|[._]lora\.(up|down))(\..*)?$|\.(alpha|dora_scale|reshape_weight|diff|diff_b|set_weight|[wb]_norm|rescale|on_input|[ab][12]\.weight|modules_to_save\..*|[pq]_layer\.weight|(hada|lokr|b?oft)_.*)$/;

/** The module part of a key of an adapter file: the key without the ending of any known form. */
export function moduleOf(key: string): string {
  const end = PEFT_PARTS.exec(key)?.index;
  return readAdapterKey(key)?.module ?? (end === undefined ? key.replace(ENDING, "") : key.slice(0, end));
}

/** Name of the form that a key belongs to when qedit does not compute that form. */
export function unsupportedForm(key: string): string | undefined {
  const form =
    UNSUPPORTED.find(([pattern]) => pattern.test(key))?.[1] ?? PEFT_KINDS.get(PEFT_PARTS.exec(key)?.[1] ?? "");
  return form ?? (FUSED_PROJECTION.test(moduleOf(key)) ? "of fused projections" : undefined);
}
