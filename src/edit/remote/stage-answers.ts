// What a server answered as the result of a stage. Nothing of it is trusted: names, types, shapes and values of its tensors are checked, and its
// record is held against what was asked: the same pictures, settings and earlier stages.
import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Artifact, type ArtifactInfo, artifactOfParts } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { parseRecipe } from "../../artifacts/recipe.js";
import { sizesFault, statisticsFault } from "../../artifacts/record-faults.js";
import type { Image } from "../../image/image.js";
import { readImage } from "../../image/io/read.js";
import { V2Error } from "../../kserve/v2-error.js";
import { toTensor, type V2Tensor } from "../../kserve/v2-tensor.js";
import { publishedLatents } from "../../models/vaes.js";
import { parseLora } from "../../stages/networks/loras.js";
import { pictureHashes, pictureNames } from "../../stages/pictures.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";
import { jsonExcess } from "../../std/json-limits.js";
import { type RemoteAnswer, unfit } from "./remote-model.js";
import type { RemoteInputs, RemoteSettings } from "./stage-tensors.js";

/** What a stage was asked. */
export interface Asked {
  readonly stage: StageName;
  readonly inputs: RemoteInputs;
  readonly settings: RemoteSettings;
}

/** Bytes and form of a record: those of an edit take some kilobytes. */
const LONGEST_RECORD = 1024 ** 2;
const RECORD_LIMITS = { depth: 16, entries: 100_000 };

/** The artifact that encode-image, encode-prompt or sample gave. Throws QEDIT_E_NETWORK for what does not fit, QEDIT_E_BAD_OUTPUT for values that are not finite. */
export function artifactOfAnswer(kind: ArtifactKind, record: string, { answer, asked }: Given): Artifact {
  const { from, outputs } = answer;
  const text = textOf(record, answer);
  const tensors = [...outputs.values()].filter(({ name }) => name !== record);
  const artifact = understood(from, () =>
    artifactOfParts(kind, {
      tensors: Object.fromEntries(tensors.map((each) => [each.name, toTensor(each)])),
      record: text,
      name: `the answer of ${from}`,
    }),
  );
  const fault = recordFault(artifact.info, asked) ?? SHAPES[kind](artifact, asked);
  if (fault !== undefined) throw unfit(from, fault);
  return { ...artifact, info: withNames(artifact.info, asked) };
}

/** The picture that decode gave, with its record. Throws as artifactOfAnswer. */
export async function pictureOfAnswer({ answer, asked }: Given): Promise<{ image: Image; info: ArtifactInfo }> {
  const { from } = answer;
  const { image, info } = await readPictureOf(answer);
  const { samples } = asked.inputs;
  const [channels, rows, columns] = samples!.tensors["latent_tensor"]!.shape.slice(1) as [number, number, number];
  // Of channels that no published VAE has, both sides have one ratio.
  const cell = publishedLatents(channels)?.cell ?? image.height / rows;
  const [height, width] = [rows * cell, columns * cell];
  const first = (samples!.info.sizes["images"] as readonly { readonly source: Image }[] | undefined)?.[0]?.source;
  const wanted = asked.settings["keepSize"] === true ? first : { width, height };
  const fault =
    recordFault(info, asked) ??
    (image.width === wanted?.width && image.height === wanted.height
      ? undefined
      : `a picture of ${image.width}x${image.height}, wanted ${wanted?.width}x${wanted?.height}`);
  if (fault !== undefined) throw unfit(from, fault);
  return { image, info };
}

/** IMAGE, decoded, and RECIPE of an answer. Throws QEDIT_E_NETWORK. */
export async function readPictureOf(answer: RemoteAnswer): Promise<{ image: Image; info: ArtifactInfo }> {
  const { from, outputs } = answer;
  const file = elementOf("IMAGE", answer);
  const recipe = parseRecipe(textOf("RECIPE", answer));
  if (recipe === undefined || outputs.size !== 2) throw unfit(from, "it has no IMAGE and RECIPE alone");
  const { settings, sizes, inputs, weights, names } = recipe;
  const image = await readImage(file, "its picture").catch((error: unknown) => {
    throw error instanceof QeditError ? unfit(from, error.message, error) : error;
  });
  return { image, info: { settings, sizes, inputs, weights, names } };
}

interface Given {
  readonly answer: RemoteAnswer;
  readonly asked: Asked;
}

const SECTIONS: Readonly<Record<StageName, string>> = {
  "encode-image": "encode_image",
  "encode-prompt": "encode_prompt",
  sample: "sample",
  decode: "decode",
};

/** What a record says of the settings of a stage, where it is not what was asked; undefined where it is. */
export function wrongSetting(info: ArtifactInfo, { stage, settings }: Omit<Asked, "inputs">): string | undefined {
  const section = info.settings[SECTIONS[stage]];
  if (!isObject(section)) return `its record has no ${SECTIONS[stage]}`;
  const wrong = Object.keys(section).find((key) => differs(key, section[key], settings));
  if (wrong !== undefined)
    return `its record has "${wrong}" ${JSON.stringify(section[wrong])}, ${JSON.stringify(recorded(settings[keyOf(wrong)]))} was asked for`;
  const strengths = (settings.lora ?? []).map((each) => parseLora(each).strength);
  return stage !== "sample" || isDeepStrictEqual(section["lora_strengths"], strengths)
    ? undefined
    : "its record has other LoRAs than those that were asked for";
}

// What a record says of the pictures, of the settings and of the stages before, against what was asked.
function recordFault(info: ArtifactInfo, asked: Asked): string | undefined {
  const { pictures = [], latents, cond, samples } = asked.inputs;
  const wrong = wrongSetting(info, asked);
  if (wrong !== undefined) return wrong;
  const before = [latents, cond, samples].filter((each) => each !== undefined).map((each) => each.info);
  const hashes = before.length === 0 ? pictureHashes(pictures) : undefined;
  if (hashes && !isDeepStrictEqual(info.inputs, hashes)) return "its record is of other pictures";
  return before.map((each) => missing(info, each, asked)).find((each) => each !== undefined);
}

// Whether a stage's record is that of what came before it, with something added.
function missing(info: ArtifactInfo, before: ArtifactInfo, { stage, inputs }: Asked): string | undefined {
  const has = (of: Readonly<Record<string, unknown>>, parts: Readonly<Record<string, unknown>>, role = "") =>
    Object.entries(parts).every(([name, value]) => {
      const isReplaced = stage === "decode" && (name === "decode" || name === "vae");
      // Of pictures that differ those of the prompt stand beside those of the latents.
      const isBeside = stage === "sample" && before === inputs.cond?.info;
      return (
        isReplaced || isDeepStrictEqual(of[name], value) || (isBeside && isDeepStrictEqual(of[`${role}${name}`], value))
      );
    });
  const isWhole =
    has(info.settings, before.settings) &&
    has(info.sizes, before.sizes) &&
    has(info.inputs, before.inputs, "prompt.") &&
    has(info.weights, before.weights);
  return isWhole ? undefined : "its record is of other inputs than those that were sent";
}

function differs(key: string, value: unknown, settings: RemoteSettings): boolean {
  const name = keyOf(key);
  // A record has the noise levels also where they follow from steps, scheduler and shift.
  if (name === "sigmas" && settings["sigmas"] === undefined) return false;
  return name in settings && name !== "lora" && !isDeepStrictEqual(value, recorded(settings[name]));
}

/** `negative_prompt` → `negativePrompt`. */
function keyOf(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

// As records write values.
function recorded(value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : (value ?? null);
}

// What is wrong with the shapes of a result of a kind, by what it was made from.
const SHAPES: Readonly<Record<ArtifactKind, (artifact: Artifact, asked: Asked) => string | undefined>> = {
  latents({ tensors, info }, { inputs: { pictures = [] } }) {
    const count = Object.keys(tensors).length - 1;
    if (count !== pictures.length) return `${count} references for ${pictures.length} pictures`;
    const fault = statisticsFault(info, tensors["latent"]!.shape[1]!) ?? sizesFault(info, Number.POSITIVE_INFINITY);
    if (fault !== undefined) return fault;
    const { target, images } = info.sizes as {
      target?: Cells;
      images?: readonly { source: Image; reference: Cells }[];
    };
    const isRight =
      isOfCells(tensors["latent"]!, target) &&
      pictures.every(({ image: { width, height } }, index) => {
        const { source, reference } = images?.[index] ?? {};
        const isSource = source?.width === width && source.height === height;
        return isSource && isOfCells(tensors[`reference_latents.${index}`]!, reference);
      });
    return isRight ? undefined : "latents of other sizes than its record says";
  },
  cond({ tensors, info }, { settings }) {
    const hasNegative = "negative_prompt_embeds" in tensors;
    if (hasNegative !== (settings["negativePrompt"] !== undefined))
      return `${hasNegative ? "a" : "no"} negative prompt, which was ${hasNegative ? "not " : ""}asked for`;
    const tokens = tensors["prompt_embeds"]!.shape[1];
    return info.sizes["prompt_tokens"] === tokens ? undefined : `${tokens} tokens, its record says otherwise`;
  },
  samples({ tensors }, { inputs: { latents } }) {
    const [found, wanted] = [tensors["latent_tensor"]!.shape, latents!.tensors["latent"]!.shape];
    return isDeepStrictEqual(found, wanted)
      ? undefined
      : `latent_tensor [${found.join(", ")}], wanted [${wanted.join(", ")}]`;
  },
};

interface Cells {
  readonly latent?: { readonly width?: unknown; readonly height?: unknown };
}

function isOfCells({ shape }: { readonly shape: readonly number[] }, route: Cells | undefined): boolean {
  return route?.latent?.height === shape[2] && route?.latent?.width === shape[3];
}

// Names of pictures are those of this machine; names of weights are the server's, without folders.
function withNames(info: ArtifactInfo, { inputs: { pictures = [] } }: Asked): ArtifactInfo {
  if (info.names === undefined) return info;
  const own: Readonly<Record<string, string>> = pictureNames(pictures);
  const names = Object.entries(info.names).map(([role, name]) => [role, own[role] ?? basename(name)] as const);
  return { ...info, names: Object.fromEntries(names) };
}

function textOf(name: string, answer: RemoteAnswer): string {
  const bytes = elementOf(name, answer);
  if (bytes.length > LONGEST_RECORD) throw unfit(answer.from, `"${name}" of ${bytes.length} bytes`);
  const text = Buffer.from(bytes).toString("utf8");
  const excess = jsonExcess(text, RECORD_LIMITS);
  if (excess !== undefined) throw unfit(answer.from, `"${name}" ${excess}`);
  return text;
}

function elementOf(name: string, { outputs, from }: RemoteAnswer): Uint8Array {
  const tensor: V2Tensor | undefined = outputs.get(name);
  const element = tensor?.datatype === "BYTES" && tensor.elements.length === 1 ? tensor.elements[0] : undefined;
  if (element === undefined) throw unfit(from, `no "${name}" of one byte string`);
  return element;
}

// What is wrong with the tensors is the server's fault; NaN stays what it is.
function understood<T>(from: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof V2Error || (error instanceof QeditError && error.code === "QEDIT_E_ARTIFACT"))
      throw unfit(from, error.message, error);
    throw error;
  }
}
