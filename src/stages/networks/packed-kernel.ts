// Whether a device has a kernel for weights in blocks of 4 or 8 bits: asked before a session opens.
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { findGpus } from "../../engine/cuda/gpus.js";
import { type Device, deviceName } from "../../engine/providers.js";
import type { DType } from "../../graph/types.js";
import { param, QeditError } from "../../std/errors.js";

/** Least compute capability at which MatMulNBits takes bfloat16 (onnxruntime 1.29, contrib_ops/cuda/quantization/matmul_nbits.h). */
const BFLOAT16_CAPABILITY = 8;

/** Throws QEDIT_E_ENGINE for packed weights in bfloat16 on a GPU that is known to be too old for them. */
export async function refuseMissingKernel(
  { file, tensors }: Pick<Checkpoint, "file" | "tensors">,
  compute: DType,
  device: Device,
): Promise<void> {
  if (device.provider !== "cuda" || compute !== "bf16") return;
  if (![...tensors.values()].some(({ packed }) => packed !== undefined)) return;
  const gpu = (await findGpus()).gpus.find(({ index }) => index === device.index);
  if (gpu?.capability === undefined || Number(gpu.capability) >= BFLOAT16_CAPABILITY) return;
  throw new QeditError(
    "QEDIT_E_ENGINE",
    `Cannot compute ${file} on ${deviceName(device)}: weights in 4 or 8 bits want a GPU of compute capability ${BFLOAT16_CAPABILITY}.0 or more (RTX 30 and later) in bfloat16, ${gpu.name} has ${gpu.capability}`,
    { hint: `Compute in float32: ${param("dtype", "float32")}, ${param("text_dtype", "float32")}` },
  );
}
