// What a stage is asked with where it runs on another qedit: its inputs as the tensors of docs/kserve.md, its settings as parameters.
import { basename } from "node:path";
import { type Artifact, recordText } from "../../artifacts/artifact.js";
import type { Box } from "../../image/image.js";
import { readBytes } from "../../image/io/read.js";
import { bytesTensor, ofTensor, rawOfNumbers, type V2Tensor } from "../../kserve/v2-tensor.js";
import type { Picture } from "../../stages/pictures.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { jsonName } from "../parameters/parameter.js";
import { STAGE_PARAMETERS } from "../parameters/table.js";

/** Inputs of a stage; each has some. */
export interface RemoteInputs {
  readonly pictures?: readonly Picture[];
  readonly latents?: Artifact;
  readonly cond?: Artifact;
  readonly samples?: Artifact;
}

/** Values of a stage's parameters by name, with the names of the model and the LoRAs. */
export type RemoteSettings = Readonly<Record<string, unknown>> & {
  readonly model?: string | undefined;
  readonly lora?: readonly string[];
};

/** Parameters that are sent as tensors, or not at all: files are the server's own. */
const NOT_SENT = ["vae", "textEncoder", "transformer", "checkpoint", "modelsDir", "lora", "prompt", "negativePrompt"];

/** The tensors of a stage's inputs. Throws QEDIT_E_IMAGE for a picture that changed since it was read. */
export async function stageTensors(
  stage: StageName,
  { pictures = [], latents, cond, samples }: RemoteInputs,
  settings: RemoteSettings,
): Promise<readonly V2Tensor[]> {
  const artifacts = [
    ...(latents ? artifactTensors(latents, "latents_record") : []),
    ...(cond ? artifactTensors(cond, "cond_record") : []),
    ...(samples ? artifactTensors(samples, "samples_record") : []),
  ];
  const seen = pictures.length > 0 ? [...(await pictureTensors(pictures)), ...regionTensors(settings)] : [];
  const texts = stage === "encode-prompt" ? promptTensors(settings) : [];
  return [...texts, ...seen, ...artifacts, ...(stage === "sample" ? loraTensors(settings) : [])];
}

/** The parameters of a stage. All that have a value are sent, so that none of the server's own settings counts. */
export function stageParameters(stage: StageName, settings: RemoteSettings): Record<string, string | number | boolean> {
  const own = sentValues(Object.keys(STAGE_PARAMETERS[stage]), settings);
  return { ...own, ...(settings.model !== undefined && { model: settings.model }), resolved: true };
}

/** What a stage reads, and how its model and LoRAs are called. */
export function ownSettings(stage: StageName, settings: RemoteSettings): RemoteSettings {
  const names = [...Object.keys(STAGE_PARAMETERS[stage]), "model", "region"];
  return Object.fromEntries(names.filter((name) => name in settings).map((name) => [name, settings[name]]));
}

/** Values of parameters as they are sent, by JSON name. */
export function sentValues(
  keys: readonly string[],
  settings: Readonly<Record<string, unknown>>,
): Record<string, string | number | boolean> {
  const values = keys
    .filter((key) => !NOT_SENT.includes(key) && settings[key] !== undefined)
    .map((key) => [jsonName(key), sentValue(settings[key])] as const);
  return Object.fromEntries(values);
}

/** IMAGE and IMAGE_NAMES. Throws QEDIT_E_IMAGE for a picture that changed since it was read. */
export async function pictureTensors(pictures: readonly Picture[]): Promise<readonly V2Tensor[]> {
  const files: Uint8Array[] = [];
  for (const picture of pictures) files.push(await fileOf(picture));
  return [
    bytesTensor("IMAGE", files),
    bytesTensor(
      "IMAGE_NAMES",
      // Folders of this machine are nobody else's business.
      pictures.map(({ name }) => basename(name)),
    ),
  ];
}

/** PROMPT, and NEGATIVE_PROMPT where there is one. */
export function promptTensors({ prompt, negativePrompt }: RemoteSettings): readonly V2Tensor[] {
  const negative = typeof negativePrompt === "string" ? [bytesTensor("NEGATIVE_PROMPT", [negativePrompt])] : [];
  return [bytesTensor("PROMPT", [String(prompt)]), ...negative];
}

/** LORA, where there are some. */
export function loraTensors({ lora = [] }: RemoteSettings): readonly V2Tensor[] {
  return lora.length === 0 ? [] : [bytesTensor("LORA", lora)];
}

/** The bytes of a picture's file. Throws QEDIT_E_IMAGE for one that changed since it was read. */
export async function fileOf({ name, file, hash }: Picture): Promise<Uint8Array> {
  if (file === undefined) throw new Error(`internal: ${name} has no file to send`);
  if (typeof file !== "string") return file;
  const bytes = await readBytes(file, name);
  if ((await fileHash(bytes)) === hash) return bytes;
  throw new QeditError("QEDIT_E_IMAGE", `Cannot send ${name}: it changed since it was read`, { hint: "Run it again" });
}

function artifactTensors(artifact: Artifact, record: string): readonly V2Tensor[] {
  const tensors = Object.entries(artifact.tensors).map(([name, each]) => ofTensor(name, each));
  return [...tensors, bytesTensor(record, [recordText(artifact)])];
}

function regionTensors({ region }: RemoteSettings): readonly V2Tensor[] {
  if (region === undefined) return [];
  const { x, y, width, height } = region as Box;
  const head = { name: "REGION", datatype: "INT32", shape: [4] } as const;
  return [{ ...head, data: rawOfNumbers(head, [x, y, width, height]) }];
}

function sentValue(value: unknown): string | number | boolean {
  if (typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return String(value);
  // Noise levels. Parameters of KServe are no lists.
  if (Array.isArray(value)) return value.join(",");
  const { width, height } = value as { readonly width: number; readonly height: number };
  return `${width}x${height}`;
}
