// Reads the tensors of a request as what a model takes: pictures with names, parameters of an edit, artifacts of stages.

import { type Artifact, artifactOfParts } from "../../artifacts/artifact.js";
import type { ArtifactKind } from "../../artifacts/kinds.js";
import { isBoxIn } from "../../artifacts/record-faults.js";
import { type EditRequest, isParameter, type NamedBytes, parameterOfText } from "../../edit/request/edit-request.js";
import type { Box } from "../../image/image.js";
import { V2Error } from "../../kserve/v2-error.js";
import {
  type BytesTensor,
  type NumericTensor,
  numbersOf,
  refused,
  toTensor,
  type V2Tensor,
} from "../../kserve/v2-tensor.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import { jsonExcess } from "../../std/json-limits.js";
import { recordFault, shapeFault } from "../artifact-limits.js";
import { fileName } from "../http/request-body.js";
import type { ServerLimits } from "../limits.js";
import { isEnsemble } from "./ensemble-specs.js";
import { type ModelSpec, PARAMETER_INPUTS, type TensorSpec } from "./model-specs.js";

type Tensors = ReadonlyMap<string, V2Tensor>;

const FLOATS = ["FP32", "FP16", "BF16"];

/** Bytes and form of a record: those of an edit take some kilobytes. */
const LONGEST_RECORD = 1024 ** 2;
const RECORD_LIMITS = { depth: 16, entries: 100_000 };

/** Refuses tensors that a model does not take, those that it lacks, and datatypes and shapes that are others. */
export function checkInputs(spec: ModelSpec, tensors: Tensors): void {
  const { name: model, inputs } = spec;
  const unknown = [...tensors.keys()].find((name) => !inputs.some((each) => each.name === name));
  if (unknown !== undefined)
    throw new V2Error(
      400,
      `"${shown(unknown)}" is no input of ${model}: it takes ${inputs.map(({ name }) => name).join(", ")}`,
    );
  for (const input of inputs) {
    const tensor = tensors.get(input.name);
    if (tensor !== undefined) checkInput(input, tensor, isEnsemble(spec) ? [] : FLOATS);
    else if (!input.isOptional && !(input.name in PARAMETER_INPUTS))
      throw new V2Error(400, `${model} lacks the input "${input.name}"`);
  }
}

function checkInput(
  { name, datatype, shape: wanted }: TensorSpec,
  { datatype: found, shape }: V2Tensor,
  floats: readonly string[],
): void {
  const isFloat = datatype === "FP32" && wanted.length > 1 && floats.includes(found);
  if (datatype !== found && !isFloat) throw refused(name, `wanted ${datatype}, found ${found}`);
  // ComfyUI holds latents as video, with one frame.
  const isFrame = name === "latent_tensor" && shape.length === 5 && shape[2] === 1;
  const own = isFrame ? shape.toSpliced(2, 1) : shape;
  if (own.length !== wanted.length || !own.every((length, axis) => length > 0 && [-1, length].includes(wanted[axis]!)))
    throw refused(name, `wanted [${wanted.join(", ")}], found [${shape.join(", ")}]`);
}

/** The parameters of a request: its own, switches as texts too, and those that it sent as tensors. Throws V2Error if one is given both ways. */
export function readModelParameters(
  tensors: Tensors,
  given: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const written = Object.entries(given).map(([name, value]): [string, unknown] => [
    name,
    typeof value === "string" && isParameter(name) ? parameterOfText(name, [value]) : value,
  ]);
  const parameters = Object.fromEntries(written);
  for (const [input, parameter] of Object.entries(PARAMETER_INPUTS)) {
    const tensor = tensors.get(input);
    if (tensor === undefined) continue;
    if (parameter in given) throw refused(input, `the parameter "${parameter}" is given as well`);
    parameters[parameter] = parameterOf(tensor);
  }
  return parameters;
}

/** The pictures of a request with their names. */
export function readPicturesOf(tensors: Tensors): readonly NamedBytes[] {
  const images = tensors.get("IMAGE");
  const given = tensors.get("IMAGE_NAMES");
  const elements = images === undefined ? [] : (images as BytesTensor).elements;
  if (given !== undefined && given.shape[0] !== elements.length)
    throw refused("IMAGE_NAMES", `wanted ${elements.length} names, one for each picture, found ${given.shape[0]}`);
  const names = given === undefined ? undefined : textsOf(given);
  return elements.map((bytes, index) => ({ name: fileName(names?.[index] ?? `image-${index + 1}`), bytes }));
}

/** The part of picture 1 that is edited; undefined: all of it. */
export function readRegion(tensors: Tensors, pictures: readonly Picture[]): Box | undefined {
  const tensor = tensors.get("REGION");
  if (tensor === undefined) return undefined;
  const [x, y, width, height] = numbersOf(tensor as NumericTensor) as readonly number[];
  const region = { x: x!, y: y!, width: width!, height: height! };
  if (isBoxIn(region, pictures[0]?.image)) return region;
  throw refused("REGION", "x, y, width and height of a box in picture 1 are wanted");
}

/** The mask of a request. */
export function readMask(tensors: Tensors): EditRequest["mask"] {
  const mask = tensors.get("MASK");
  const name = tensors.get("MASK_NAME");
  if (mask === undefined && name !== undefined) throw refused("MASK_NAME", "there is no MASK");
  if (mask === undefined) return undefined;
  return { name: fileName(name === undefined ? "mask" : textsOf(name)[0]!), bytes: (mask as BytesTensor).elements[0]! };
}

/** The artifact that some of the tensors are. Throws V2Error for tensors that do not make one, or are larger than the server allows. */
export function readArtifactOf(
  kind: ArtifactKind,
  tensors: Tensors,
  { names, record, limits }: { names: RegExp; record: string; limits: ServerLimits },
): Artifact {
  const own = [...tensors.values()].filter(({ name }) => names.test(name));
  for (const { name, shape } of own) refuseFault(name, shapeFault(shape, limits));
  const given = tensors.get(record);
  const parts = {
    tensors: Object.fromEntries(own.map((each) => [each.name, toTensor(each)])),
    record: given === undefined ? undefined : recordOf(given),
    name: "the tensors",
  };
  const artifact = asRefusal(() => artifactOfParts(kind, parts));
  refuseFault(record, recordFault(artifact, limits));
  return artifact;
}

function refuseFault(name: string, fault: string | undefined): void {
  if (fault !== undefined) throw refused(name, fault);
}

function recordOf(tensor: V2Tensor): string {
  const [bytes] = (tensor as BytesTensor).elements;
  if (bytes!.length > LONGEST_RECORD)
    throw refused(tensor.name, `it has ${bytes!.length} bytes, at most ${LONGEST_RECORD} are allowed`);
  const [text] = textsOf(tensor) as [string];
  const excess = jsonExcess(text, RECORD_LIMITS);
  if (excess !== undefined) throw refused(tensor.name, excess);
  return text;
}

// What is wrong with an input is the client's fault, whatever it is.
function asRefusal<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof QeditError) throw new V2Error(400, error.message);
    throw error;
  }
}

function parameterOf(tensor: V2Tensor): unknown {
  if (tensor.datatype === "BYTES") {
    const texts = textsOf(tensor);
    return tensor.name === "LORA" ? texts : texts[0];
  }
  const values = numbersOf(tensor);
  if (tensor.name === "SIZE") return `${values[0]}x${values[1]}`;
  const [value] = values;
  // Seeds have 64 bits, of which the sign is one.
  if (tensor.name === "SEED") return String(BigInt.asUintN(64, value as bigint));
  return typeof value === "number" ? shortest(value) : value;
}

// 1.1 as FP32 is 1.10000002384185791015625: the decimal that was meant is the shortest that gives the same FP32.
function shortest(value: number): number {
  for (let digits = 1; digits <= 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

function textsOf(tensor: V2Tensor): readonly string[] {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return (tensor as BytesTensor).elements.map((each) => decoder.decode(each));
  } catch {
    throw refused(tensor.name, "it is no UTF-8");
  }
}
