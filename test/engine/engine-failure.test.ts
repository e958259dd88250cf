// What ONNX Runtime says of failures, in one line; its messages as they stand in the pinned release.
import { expect, test } from "vitest";
import { engineFailure } from "../../src/engine/sessions/engine-failure.js";

test.each([
  [
    "BFloat16 MatMulNBits is not supported on cuda device with compute capability < 8.0",
    { code: "QEDIT_E_ENGINE", message: expect.stringContaining("want a GPU of compute capability 8.0 or more") },
  ],
  [
    "Non-zero status code returned while running MatMul node. Failed to allocate memory for requested buffer of size 9",
    { code: "QEDIT_E_MEMORY", message: "Cannot open the transformer: out of memory" },
  ],
  [
    "/onnxruntime_src/cuda_call.cc:129 std::conditional_t<THRW> [with ERRTYPE = cudaError] CUDA failure 35: CUDA driver version is insufficient; GPU=0",
    {
      code: "QEDIT_E_ENGINE",
      message: "Cannot open the transformer: CUDA failure 35: CUDA driver version is insufficient",
    },
  ],
])("%s", (message, wanted) => {
  expect(engineFailure("open the transformer", new Error(`${message}\nand more`))).toMatchObject(wanted);
});
