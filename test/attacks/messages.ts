// Malformed calls over gRPC: valid messages with wrong fields, lying shapes and lengths, damaged bytes.
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fixture } from "../support/golden.js";
import type { Random } from "./requests.js";

/** A call: a method's name, and the bytes of its message. */
export interface RawCall {
  readonly method: string;
  readonly bytes: Buffer;
}

interface Method {
  readonly requestSerialize: (message: object) => Buffer;
}

const METHODS = serviceMethods();

const REAL = ["encode_image", "encode_prompt", "sample", "decode", "qedit"];
const MODELS = [...REAL, ...REAL, ...REAL, "", "../x", "x".repeat(5000)];
const NAMES = [
  ...["IMAGE", "IMAGE_NAMES", "PROMPT", "SEED", "STEPS", "CFG", "SIZE", "LORA", "MASK", "latent_tensor"],
  ...["latent", "prompt_embeds", "samples_record", "latents_record", "reference_latents.0", "__proto__", ""],
];
const DATATYPES = ["BYTES", "FP32", "FP16", "BF16", "INT32", "INT64", "BOOL", "UINT8", "FP64", "x", ""];
const SHAPES = [
  [],
  [1],
  [2],
  [-1],
  [0],
  [1, 16, 4, 4],
  [1, 3, 48],
  [1, 16, 2 ** 20, 2 ** 20],
  ["9223372036854775807"],
  Array(100).fill(1),
];
const RECORDS = [
  "{}",
  "[".repeat(50_000),
  '{"kind":"samples","version":1,"settings":{},"sizes":{"images":[{"source":{"width":1e9,"height":1e9}}]},"inputs":{},"weights":{}}',
  '{"kind":"samples","version":1,"settings":{"latent_statistics":{"mean":[1],"std":[0]}},"sizes":{"target":{}},"inputs":{},"weights":{}}',
  '{"__proto__":{"kind":"samples"}}',
];

/** Makes a call that may be wrong in any part. */
export function malformedCall(random: Random, pictures: readonly Buffer[]): RawCall {
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const method = random() < 0.8 ? "ModelInfer" : oneOf([...METHODS.keys()]);
  const whole = METHODS.get(method)!.requestSerialize(messageOf(random, pictures));
  const bytes = random() < 0.2 ? whole.subarray(0, Math.floor(random() * whole.length)) : Buffer.from(whole);
  const damages = random() < 0.3 ? 1 + random() * 5 : 0;
  for (let index = 0; index < damages && bytes.length > 0; index += 1)
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  return { method, bytes };
}

function messageOf(random: Random, pictures: readonly Buffer[]): object {
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const values = [
    ...pictures,
    ...RECORDS.map((text) => Buffer.from(text)),
    Buffer.from("make it winter"),
    Buffer.alloc(0),
  ];
  const counted = (value: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(oneOf([value.length, value.length, 0, 2 ** 32 - 1, value.length + 1]));
    return Buffer.concat([length, value]);
  };
  const raws = () => [
    counted(oneOf(values)),
    Buffer.alloc(oneOf([0, 1, 4, 8, 576, 1024, 2 ** 20])),
    Buffer.alloc(1024, 0x7f),
  ];
  const inputs = Array.from({ length: Math.floor(random() * 4) }, () => {
    const contents = oneOf<object | undefined>([
      undefined,
      { bytes_contents: [oneOf(values)] },
      { int_contents: [-1, 2 ** 31 - 1] },
      { int64_contents: ["-9223372036854775808"] },
      { fp32_contents: [Number.NaN, 1e38] },
      { bool_contents: [true] },
    ]);
    return {
      name: oneOf(NAMES),
      datatype: oneOf(DATATYPES),
      shape: oneOf<readonly unknown[]>(SHAPES),
      ...(contents && { contents }),
    };
  });
  const parameter = oneOf<object>([
    { string_param: "../x" },
    { int64_param: "-1" },
    { double_param: Number.NaN },
    { bool_param: true },
    { uint64_param: "18446744073709551615" },
    {},
  ]);
  const key = oneOf(["steps", "model", "vae", "timeout", "keep_size", "sequence_id", "__proto__", "prompt", "size"]);
  return {
    model_name: oneOf(MODELS),
    name: oneOf(MODELS),
    model_version: oneOf(["", "1", "2", "-1"]),
    id: oneOf(["", "a", "x".repeat(300)]),
    inputs,
    outputs: random() < 0.3 ? [{ name: oneOf([...NAMES, "RECIPE"]) }] : [],
    raw_input_contents: random() < 0.6 ? inputs.map(() => oneOf(raws())) : random() < 0.5 ? raws() : [],
    parameters: random() < 0.4 ? { [key]: parameter } : {},
  };
}

function serviceMethods(): ReadonlyMap<string, Method> {
  const definition = loadSync(fixture("../src/server/kserve/kserve.proto"), { keepCase: true, longs: String });
  const { inference } = loadPackageDefinition(definition) as unknown as {
    readonly inference: { readonly GRPCInferenceService: { readonly service: Readonly<Record<string, Method>> } };
  };
  // A load opens the networks of a model.
  return new Map(
    Object.entries(inference.GRPCInferenceService.service).filter(([name]) => name !== "RepositoryModelLoad"),
  );
}
