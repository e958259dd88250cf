// NVIDIA's PyPI packages by the library in each: the smallest download of CUDA 13 and cuDNN 9. Python is not needed.
import { join } from "node:path";
import { folderFor } from "../../std/own-folders.js";

/** A PyPI package, and the major version whose libraries have the soname. */
export interface CudaPackage {
  readonly name: string;
  readonly major: number;
}

/** Packages by soname; the driver's libraries are in none. */
export const CUDA_PACKAGES: Readonly<Record<string, CudaPackage>> = {
  "libcudart.so.13": { name: "nvidia-cuda-runtime", major: 13 },
  "libcublas.so.13": { name: "nvidia-cublas", major: 13 },
  "libcublasLt.so.13": { name: "nvidia-cublas", major: 13 },
  "libcurand.so.10": { name: "nvidia-curand", major: 10 },
  "libcufft.so.12": { name: "nvidia-cufft", major: 12 },
  "libnvrtc.so.13": { name: "nvidia-cuda-nvrtc", major: 13 },
  "libcudnn.so.9": { name: "nvidia-cudnn-cu13", major: 9 },
};

/** Folder that `qedit setup --libraries` installs them to. */
export function ownLibraries(): string {
  return join(folderFor("data"), "runtime", "cuda-13");
}
