// What an exported model says it is, in the parameter "qedit" of its configuration, which Triton hands back. An export writes it; whoever calls the model
// reads it to make inputs, to hold its weights against those that are wanted, and to know what it cannot do. Nothing read is trusted.
import * as v from "valibot";
import { CHANNELS, RGBA_CHANNELS } from "../../image/image.js";
import { jsonExcess } from "../../std/json-limits.js";
import type { ClientNumbers } from "./client-inputs.js";
import { conventionsOf, EXPORTED_FAMILIES, exportedFamily } from "./exported-families.js";

/** The key of the parameter. */
export const FACTS_PARAMETER = "qedit";

/** Raised when clients of earlier exports cannot read it. */
const FORMAT = "qedit-exported 1";

/** Characters and form of the text: three LoRAs make two thousand. */
const LONGEST = 16_384;
const LIMITS = { depth: 4, entries: 500 };

/** A whole edit that an export has as one model. */
export interface EnsembleKind {
  /** Number of pictures. */
  readonly images: number;
  /** Whether a negative prompt and cfg are inputs. */
  readonly hasCfg: boolean;
}

/** The name of that model: `qedit_2`, `qedit_2_cfg`. */
export function ensembleName({ images, hasCfg }: EnsembleKind): string {
  return `qedit_${images}${hasCfg ? "_cfg" : ""}`;
}

const name = v.pipe(v.string(), v.regex(/^[^/\\\p{C}]{1,255}$/u));
const hash = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const count = (least: number, most: number) => v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));
// Latents lie within 50.
const scales = (least: number) =>
  v.pipe(v.array(v.pipe(v.number(), v.minValue(least), v.maxValue(1e4))), v.maxLength(64));
const dtype = v.picklist(["f32", "f16", "bf16"]);
const method = v.picklist(["index", "offset", "index_timestep_zero"]);

const schema = v.strictObject({
  format: v.literal(FORMAT),
  qedit: v.pipe(v.string(), v.maxLength(50)),
  family: v.picklist(EXPORTED_FAMILIES),
  model: v.pipe(v.string(), v.maxLength(255)),
  weights: v.record(
    v.pipe(v.string(), v.regex(/^(vae|text_encoder|transformer|lora\.\d{1,3})$/)),
    v.strictObject({
      file: name,
      identity: hash,
      sha256: v.optional(hash),
      strength: v.optional(v.pipe(v.number(), v.finite())),
    }),
  ),
  compute: v.strictObject({ vae: dtype, text_encoder: dtype, transformer: dtype }),
  device: v.picklist(["cpu", "cuda"]),
  runtime: v.pipe(v.string(), v.regex(/^[\w.+ -]{1,100}$/)),
  images: count(1, 16),
  guidance: v.boolean(),
  sampling: v.strictObject({
    sampler: v.literal("euler"),
    scheduler: v.pipe(v.string(), v.maxLength(50)),
    shift: v.pipe(v.number(), v.finite()),
    steps: count(1, 10_000),
    cfg_norm: v.union([v.literal("none"), v.pipe(v.number(), v.finite())]),
    // Of a family that has several.
    reference_method: v.optional(method),
    own_reference_method: v.optional(method),
  }),
  patches: v.strictObject({ patch: count(1, 64), temporal: count(1, 8), merge: count(1, 8) }),
  cell: count(1, 64),
  /** 3 unless given. */
  image_channels: v.optional(v.picklist([3, 4])),
  latent_channels: count(1, 64),
  token_side: count(1, 8),
  statistics: v.strictObject({ mean: scales(-1e4), std: scales(1e-4) }),
});

/** What an exported model says it is. */
export type ExportedFacts = v.InferOutput<typeof schema>;

/** Facts before their format is named. */
export type FactsOfExport = Omit<ExportedFacts, "format">;

/** The text of the parameter, in ASCII. */
export function factsText(facts: FactsOfExport): string {
  const whole: ExportedFacts = { format: FORMAT, ...facts };
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(whole).replace(/[\u007f-\uffff]/g, escaped);
}

/** What a text says; or what is wrong with it. */
export function readFacts(text: string): ExportedFacts | { readonly fault: string } {
  if (text.length > LONGEST) return { fault: `has ${text.length} characters, at most ${LONGEST} are read` };
  const excess = jsonExcess(text, LIMITS);
  if (excess !== undefined) return { fault: excess };
  const value = parsed(text);
  const read = v.safeParse(schema, value);
  if (!read.success) {
    const [issue] = read.issues;
    const where = v.getDotPath(issue);
    return { fault: where === null ? "is not of this form" : `has no fitting "${where}", wanted ${issue.expected}` };
  }
  const { latent_channels: channels, statistics } = read.output;
  if (statistics.mean.length !== channels || statistics.std.length !== channels)
    return { fault: `has statistics that are none of ${channels} channels` };
  const other = otherNumber(read.output);
  return other === undefined ? read.output : { fault: `has a "${other}" that no model of ${read.output.family} has` };
}

// A number that no model of the family has: sizes and patches would not fit each other.
function otherNumber({ family, cell, token_side, image_channels, patches }: ExportedFacts): string | undefined {
  const { vae, placesImages } = exportedFamily(family);
  const { multiple, tokenCells } = vae.sizes;
  if (multiple % (cell * tokenCells) !== 0) return "cell";
  if (token_side !== tokenCells) return "token_side";
  if ((image_channels ?? CHANNELS) !== (placesImages ? RGBA_CHANNELS : CHANNELS)) return "image_channels";
  const seesReferences = conventionsOf(family).references !== undefined;
  return seesReferences && multiple % (patches.patch * patches.merge) !== 0 ? "patches" : undefined;
}

/** The numbers that clients make inputs with. */
export function numbersOfFacts({
  family,
  patches,
  cell,
  latent_channels: latentChannels,
  image_channels: imageChannels = CHANNELS,
}: ExportedFacts): ClientNumbers {
  const { pixels } = conventionsOf(family);
  return { family, patches: { ...patches, pixels }, cell, latentChannels, imageChannels };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
