// The provider table: what each execution provider is called, how to ask ONNX Runtime for it, and what it computes in.
import type { InferenceSession } from "onnxruntime-node";
import { QeditError } from "../errors.js";
import type { DType } from "../graph/types.js";

/** A place to compute: the CPU, or one NVIDIA GPU. */
export interface Device {
  readonly provider: "cpu" | "cuda";
  /** Number of the GPU; 0 on the CPU. */
  readonly index: number;
  /** Threads of one operator on the CPU; 0 lets ONNX Runtime take the cores. */
  readonly threads: number;
}

/** The networks whose compute type a provider chooses. */
export type Network = "vae" | "text-encoder" | "transformer";

interface Provider {
  readonly compute: Readonly<Record<Network, DType>>;
  /** What `--dtype` may ask for. */
  readonly computes: readonly DType[];
  readonly executionProviders: (device: Device) => InferenceSession.ExecutionProviderConfig[];
}

const PROVIDERS: Readonly<Record<Device["provider"], Provider>> = {
  cpu: {
    // The CPU provider has no bfloat16 or float16 matrix products.
    compute: { vae: "f32", "text-encoder": "f32", transformer: "f32" },
    computes: ["f32"],
    executionProviders: () => ["cpu"],
  },
  cuda: {
    // As ComfyUI: the text encoder's activations are float32, the transformer's bfloat16. Resize has no
    // bfloat16 kernel, so the VAE stays in float32.
    compute: { vae: "f32", "text-encoder": "f32", transformer: "bf16" },
    computes: ["f32", "bf16"],
    executionProviders: ({ index }) => [{ name: "cuda", deviceId: index }],
  },
};

const DTYPES: Readonly<Record<string, DType>> = { float32: "f32", bfloat16: "bf16", f32: "f32", bf16: "bf16", fp32: "f32" };

/** Reads `cpu`, `cuda` or `cuda:N`; throws QEDIT_E_USAGE for anything else. */
export function parseDevice(text: string, threads: number): Device {
  const match = /^(?:(cpu)|(cuda)(?::(\d+))?)$/.exec(text);
  if (!match) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use device "${text}": auto, cpu, cuda or cuda:N is wanted`, { hint: "--device auto" });
  }
  return { provider: match[1] ? "cpu" : "cuda", index: Number(match[3] ?? 0), threads };
}

/** A device as the user writes it. */
export function deviceName({ provider, index }: Device): string {
  return provider === "cpu" ? "cpu" : `${provider}:${index}`;
}

/** The type a network computes in on a device: the provider's own choice, or for the transformer what `--dtype` asks. */
export function computeType(device: Device, network: Network, wanted?: string): DType {
  const provider = PROVIDERS[device.provider];
  if (wanted === undefined || wanted === "auto" || network !== "transformer") return provider.compute[network];
  const dtype = DTYPES[wanted];
  if (dtype === undefined || !provider.computes.includes(dtype)) {
    const names = Object.keys(DTYPES).filter((name) => name.length > 4 && provider.computes.includes(DTYPES[name]!));
    throw new QeditError("QEDIT_E_USAGE", `Cannot compute in "${wanted}" on ${deviceName(device)}: ${["auto", ...names].join(" or ")} is wanted`, {
      hint: "--dtype auto",
    });
  }
  return dtype;
}

/** What ONNX Runtime is asked for on a device. */
export function executionProviders(device: Device): InferenceSession.ExecutionProviderConfig[] {
  return PROVIDERS[device.provider].executionProviders(device);
}
