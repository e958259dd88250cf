// Errors of ONNX Runtime in one line.
import { param, QeditError } from "../../std/errors.js";

/** ONNX Runtime's messages when the memory of the host or the GPU has run out. */
const OUT_OF_MEMORY =
  /bad_alloc|[Ff]ailed to allocate memory|out of memory|CUDA failure 2\b|CUBLAS_STATUS_ALLOC_FAILED|Available memory of/;

/** Such as `CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version`. */
const GPU_FAILURE = /\b(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT) failure \d+: [^;]+/;

/** Of MatMulNBits on cards before Ampere (onnxruntime/contrib_ops/cuda/quantization/matmul_nbits.h). */
const NO_BFLOAT16 = /BFloat16 MatMulNBits is not supported/;

/** QEDIT_E_MEMORY or QEDIT_E_ENGINE for what ONNX Runtime says of what was attempted. */
export function engineFailure(what: string, cause: unknown): QeditError {
  const [line = ""] = String(cause instanceof Error ? cause.message : cause).split("\n");
  if (OUT_OF_MEMORY.test(String(cause))) {
    return new QeditError("QEDIT_E_MEMORY", `Cannot ${what}: out of memory`, {
      cause,
      hint: `Try a smaller picture: ${param("megapixels", 0.5)}`,
    });
  }
  if (NO_BFLOAT16.test(String(cause))) {
    const wanted = "weights in 4 or 8 bits want a GPU of compute capability 8.0 or more (RTX 30 and later) in bfloat16";
    return new QeditError("QEDIT_E_ENGINE", `Cannot ${what}: ${wanted}`, {
      cause,
      hint: `Compute in float32: ${param("dtype", "float32")}, ${param("text_dtype", "float32")}`,
    });
  }
  // A message about the GPU has the readable part in its middle, between C++ templates and macros.
  const reason = GPU_FAILURE.exec(line)?.[0].trim() ?? line;
  return new QeditError("QEDIT_E_ENGINE", `Cannot ${what}: ${reason}`, { cause });
}
