// Execution providers: their names, ONNX Runtime's options for each, and the types that networks compute in.
import type { InferenceSession } from "onnxruntime-node";
import type { DType } from "../graph/types.js";
import { param, QeditError } from "../std/errors.js";

/** The CPU, or one NVIDIA GPU. */
export interface Device {
  readonly provider: "cpu" | "cuda";
  /** CUDA's device number; 0 on the CPU. */
  readonly index: number;
  /** intra_op_num_threads of a session; 0 for ONNX Runtime's default, one per core. */
  readonly threads: number;
}

/** Networks with a compute type of their own. */
export type Network = "vae" | "text-encoder" | "transformer";

interface Provider {
  /** Types that each network may compute in; the first is the default. */
  readonly computes: Readonly<Record<Network, readonly [DType, ...DType[]]>>;
  readonly executionProviders: (device: Device) => InferenceSession.ExecutionProviderConfig[];
}

const PROVIDERS: Readonly<Record<Device["provider"], Provider>> = {
  cpu: {
    // Only f32 has kernels for every node of the networks (kernel-table.ts).
    computes: { vae: ["f32"], "text-encoder": ["f32"], transformer: ["f32"] },
    executionProviders: () => ["cpu"],
  },
  cuda: {
    computes: {
      // Resize has no bfloat16 kernel (kernel-table.ts). After an overflow in float16 the VAE runs again in float32 (stages/vae-type.ts).
      vae: ["f16", "f32"],
      // As ComfyUI.
      "text-encoder": ["f32", "bf16"],
      // Never float16: the residual stream of the published transformer does not fit in it.
      transformer: ["bf16", "f32"],
    },
    executionProviders: ({ index }) => [{ name: "cuda", deviceId: index }],
  },
};

const DTYPES: Readonly<Record<string, DType>> = {
  float32: "f32",
  bfloat16: "bf16",
  float16: "f16",
  f32: "f32",
  bf16: "bf16",
  f16: "f16",
  fp32: "f32",
  fp16: "f16",
};

/** The parameter for each network's compute type. */
const PARAMETERS: Readonly<Record<Network, string>> = {
  vae: "vae_dtype",
  "text-encoder": "text_dtype",
  transformer: "dtype",
};

/** Reads `cpu`, `cuda` or `cuda:N`; throws QEDIT_E_USAGE for anything else. */
export function parseDevice(text: string, threads: number): Device {
  const match = /^(?:(cpu)|(cuda)(?::(\d+))?)$/.exec(text);
  if (!match) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot compute on "${text}": auto, cpu, cuda or cuda:N is wanted`, {
      hint: param("device", "auto"),
      parameter: "device",
    });
  }
  return { provider: match[1] ? "cpu" : "cuda", index: Number(match[3] ?? 0), threads };
}

/**
 * Reads devices separated by commas, each written once: `cpu`, `cuda:0,cuda:1`; or `auto` alone, returned as it is, since a trial resolves it.
 * Throws QEDIT_E_USAGE for anything else.
 */
export function parseDevices(text: string, threads: number): readonly Device[] | "auto" {
  if (text === "auto") return text;
  const names = text.split(",");
  const refuse = (reason: string, hint: string) =>
    new QeditError("QEDIT_E_USAGE", `Cannot use devices "${text}": ${reason}`, { hint });
  if (names.includes("auto")) throw refuse("auto stands alone", "Write auto, or each device by its name");
  const devices = names.map((name) => parseDevice(name, threads));
  const repeated = devices.map(deviceName).find((name, index, all) => all.indexOf(name) < index);
  if (repeated !== undefined) throw refuse(`${repeated} is repeated`, "Write each device once");
  return devices;
}

/** A device as the user writes it. */
export function deviceName({ provider, index }: Device): string {
  return provider === "cpu" ? "cpu" : `${provider}:${index}`;
}

/** The type that a network computes in on a device: the one that was named, or for `auto` the provider's default. Throws QEDIT_E_USAGE for a type it cannot compute in. */
export function computeType(device: Device, network: Network, wanted = "auto"): DType {
  const types = PROVIDERS[device.provider].computes[network];
  if (wanted === "auto") return types[0];
  const dtype = DTYPES[wanted];
  if (dtype !== undefined && types.includes(dtype)) return dtype;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot compute in "${wanted}" on ${deviceName(device)}: ${["auto", ...types.map(typeName)].join(" or ")} is wanted`,
    {
      hint: param(PARAMETERS[network], "auto"),
      parameter: PARAMETERS[network],
    },
  );
}

/** A compute type as the user writes it: `float32`. */
export function typeName(type: DType): string {
  return Object.keys(DTYPES).find((name) => DTYPES[name] === type) ?? type;
}

/** ONNX Runtime's `executionProviders` option for a device. */
export function executionProviders(device: Device): InferenceSession.ExecutionProviderConfig[] {
  return PROVIDERS[device.provider].executionProviders(device);
}
