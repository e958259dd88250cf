// The tensors of an edit as clients of an exported ensemble send them, held to what the graphs of an export refuse, and to what no edit has.
import * as v from "valibot";
import { CHANNELS, RGBA_CHANNELS } from "../../image/image.js";
import type { VisionPatches } from "../../image/patches.js";
import type { TextEncoderName } from "../../models/text-encoder-family.js";
import { visionConfig } from "../../models/text-encoders.js";
import { vaeNumbers } from "../../models/vaes.js";
import { templateOf } from "../../stages/networks/embed-prompt.js";
import { numbersOf } from "../../stages/networks/model-handle.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { float32, type Tensor, type Tensors } from "../../std/tensor.js";
import { tensorHash } from "../../std/tensor-hash.js";
import { contractImages, seenTokens } from "../../text/prompt.js";
import { TOKEN } from "../../text/vocabulary.js";
import { EDIT_PARAMETERS } from "../parameters/table.js";
import type { LocalModels } from "../resolve/resolve-edit.js";

/** Patches of a picture: an edit's have about 800. What the vision tower takes grows with the square. */
const MOST_PATCHES = 4096;

/** Far above noise and normalised pixels, which lie within 10: the networks would make NaN of more. */
const LARGEST_VALUE = 1e6;

/** An edit by tensors. */
export interface EditTensors {
  /** At the sizes that they are encoded at. */
  readonly pictures: readonly Picture[];
  /** Tokens of the prompt, one placeholder for each picture. */
  readonly ids: readonly number[];
  /** Those of the negative prompt; undefined: without guidance. */
  readonly negativeIds: readonly number[] | undefined;
  readonly patches: readonly VisionPatches[];
  /** Normalised, of the shape of the result's latent. */
  readonly noise: Tensor<"float32">;
  /** Noise levels, falling. */
  readonly sigmas: Float32Array;
  readonly cfg: number;
}

/** Which tensors there are. */
export interface TensorEditKind {
  readonly images: number;
  /** Whether a negative prompt and cfg are among them. */
  readonly hasCfg: boolean;
}

/** Reads the tensors of an edit, whose types and numbers of dimensions are those of an ensemble. Throws QEDIT_E_USAGE for what no edit has. */
export function readEditTensors(
  tensors: Tensors,
  { images, hasCfg }: TensorEditKind,
  { vae, textEncoder }: Pick<LocalModels, "vae" | "textEncoder">,
): EditTensors {
  const { sizes, spatialRatio, imageChannels } = vaeNumbers(numbersOf(vae.checkpoint));
  const numbers = numbersOf(textEncoder.checkpoint);
  const { mergeSize, family } = visionConfig(numbers, textEncoder.config);
  const [vocabulary] = numbers.shape("model.embed_tokens.weight") as [number, number];
  const sigmas = tensors["sigmas"]!.data as Float32Array;
  checkSigmas(sigmas);
  const cfg = hasCfg ? checkedCfg(tensors["cfg"]!) : 1;
  const noise = finite("noise", tensors);
  // A picture that the vision tower sees too has whole tokens of it.
  const multiple = sizes.seesReferences ? sizes.multiple : spatialRatio;
  const shape = { multiple, channels: imageChannels === RGBA_CHANNELS ? RGBA_CHANNELS : CHANNELS } as const;
  const pictures = Array.from({ length: images }, (_, index) => pictureOf(tensors, index + 1, shape));
  // An edit of no picture has neither.
  const grids = images === 0 ? [] : gridsOf(tensors["image_grid_thw"]!, { images, mergeSize });
  const patches = images === 0 ? [] : patchesOf(finite("pixel_values", tensors), grids);
  const counts = grids.map(([, rows, columns]) => (rows * columns) / mergeSize ** 2);
  const idsOf = (name: string) => readIds(name, tensors[name]!, { counts, vocabulary, family });
  const negativeIds = hasCfg ? idsOf("negative_input_ids") : undefined;
  return { pictures, ids: idsOf("input_ids"), negativeIds, patches, noise, sigmas, cfg };
}

function refused(name: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use "${name}": ${reason}`);
}

function checkSigmas(sigmas: Float32Array): void {
  const wrong = (reason: string) => refused("sigmas", reason);
  if (sigmas.length < 2) throw wrong(`two noise levels or more are wanted, found ${sigmas.length}`);
  const bad = sigmas.findIndex((level) => !Number.isFinite(level));
  if (bad >= 0) throw wrong(`${sigmas[bad]} at element ${bad}`);
  const [first, last] = [sigmas[0]!, sigmas.at(-1)!];
  if (first > 1 || last < 0)
    throw wrong(`noise levels fall from 1 at most to 0 at least, found ${short(first)} to ${short(last)}`);
  const rising = sigmas.findIndex((level, index) => index > 0 && level >= sigmas[index - 1]!);
  if (rising >= 0)
    throw wrong(`noise levels fall, found ${short(sigmas[rising]!)} after ${short(sigmas[rising - 1]!)}`);
}

function checkedCfg({ data: [cfg] }: Tensor): number {
  const { schema, wanted } = EDIT_PARAMETERS.cfg.kind;
  if (typeof cfg === "number" && v.is(schema, cfg)) return cfg;
  throw refused("cfg", `${wanted} is wanted, found ${String(cfg)}`);
}

function finite(name: string, tensors: Tensors): Tensor<"float32"> {
  const found = tensors[name] as Tensor<"float32">;
  const bad = found.data.findIndex((value) => !(Math.abs(value) <= LARGEST_VALUE));
  if (bad < 0) return found;
  const isFinite = Number.isFinite(found.data[bad]);
  throw refused(name, `${found.data[bad]} at element ${bad}${isFinite ? `, more than ${LARGEST_VALUE}` : ""}`);
}

function pictureOf(
  tensors: Tensors,
  number: number,
  { multiple, channels }: { readonly multiple: number; readonly channels: 3 | 4 },
): Picture {
  const name = `image_${number}`;
  const found = tensors[name] as Tensor<"uint8">;
  const [height, width] = found.shape as [number, number];
  if (height % multiple !== 0 || width % multiple !== 0)
    throw refused(name, `sides in multiples of ${multiple} are wanted, found ${height} x ${width}`);
  const image = { width, height, data: found.data, ...(channels === RGBA_CHANNELS && { channels }) };
  return { name, image, hash: tensorHash(found) };
}

type Grid = VisionPatches["grid"];

function gridsOf(
  { shape, data }: Tensor,
  { images, mergeSize }: { readonly images: number; readonly mergeSize: number },
): readonly Grid[] {
  const wrong = (reason: string) => refused("image_grid_thw", reason);
  if (shape[0] !== images) throw wrong(`${counted(images)} wanted, one for each picture, found ${shape[0]}`);
  return Array.from({ length: images }, (_, index) => {
    const grid = [...data.subarray(index * 3, index * 3 + 3)].map(Number) as unknown as Grid;
    const [frames, rows, columns] = grid;
    const isSide = (side: number) => side > 0 && side % mergeSize === 0 && Number.isSafeInteger(side);
    const isGrid = frames === 1 && isSide(rows) && isSide(columns);
    if (isGrid && rows * columns > MOST_PATCHES)
      throw wrong(`picture ${index + 1} has ${rows} x ${columns} patches, at most ${MOST_PATCHES} are allowed`);
    if (isGrid) return grid;
    throw wrong(`rows of 1 and two positive multiples of ${mergeSize} are wanted, found ${grid.join(", ")}`);
  });
}

function patchesOf({ shape, data }: Tensor<"float32">, grids: readonly Grid[]): readonly VisionPatches[] {
  const [rows, width] = shape as [number, number];
  const counts = grids.map(([, down, across]) => down * across);
  const wanted = counts.reduce((sum, count) => sum + count, 0);
  if (rows !== wanted)
    throw refused("pixel_values", `${wanted} rows are wanted, one for each patch of image_grid_thw, found ${rows}`);
  let at = 0;
  return grids.map((grid, index) => {
    const own = data.subarray(at * width, (at + counts[index]!) * width);
    at += counts[index]!;
    return { grid, pixelValues: float32([counts[index]!, width], own) };
  });
}

function readIds(
  name: string,
  { data }: Tensor,
  {
    counts,
    vocabulary,
    family,
  }: { readonly counts: readonly number[]; readonly vocabulary: number; readonly family: TextEncoderName },
): readonly number[] {
  const all = [...(data as BigInt64Array)].map(Number);
  const bad = all.findIndex((id) => id < 0 || id >= vocabulary);
  if (bad >= 0)
    throw refused(name, `tokens from 0 to ${vocabulary - 1} are wanted, found ${data[bad]} at element ${bad}`);
  if (all.filter((id) => id === TOKEN.messageStart).length < 2)
    throw refused(name, "it is not in the edit template, with two <|im_start|>");
  const [seen, dropped] = [seenTokens(all), templateOf(family).dropIndex(all)];
  if (dropped >= seen.length) throw refused(name, "it has no token after the system prompt and before <|endoftext|>");
  if (seen.indexOf(TOKEN.imagePad) >= 0 && seen.indexOf(TOKEN.imagePad) < dropped)
    throw refused(name, "it has a picture in the system prompt");
  const ids = contractImages(seen, counts);
  if (ids !== undefined) return ids;
  const wanted = `<|image_pad|> once for each token of a picture is wanted, ${counts.join(" and ")} side by side`;
  throw refused(name, wanted);
}

function counted(images: number): string {
  return images === 1 ? "1 row is" : `${images} rows are`;
}

// 0.7 as float32 is 0.699999988079071.
function short(level: number): number {
  return Number(level.toPrecision(7));
}
