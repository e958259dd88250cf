// NVIDIA's packages for Python by the library in each: the smallest way to CUDA 13 and cuDNN 9, and it needs no Python.
import { join } from "node:path";
import { folderFor } from "../../std/own-folders.js";

/** A package, and the major version whose libraries have the soname. */
export interface CudaPackage {
  readonly name: string;
  readonly major: number;
}

/** The package of each library that is NVIDIA's and not the driver's. */
export const CUDA_PACKAGES: Readonly<Record<string, CudaPackage>> = {
  "libcudart.so.13": { name: "nvidia-cuda-runtime", major: 13 },
  "libcublas.so.13": { name: "nvidia-cublas", major: 13 },
  "libcublasLt.so.13": { name: "nvidia-cublas", major: 13 },
  "libcurand.so.10": { name: "nvidia-curand", major: 10 },
  "libcufft.so.12": { name: "nvidia-cufft", major: 12 },
  "libnvrtc.so.13": { name: "nvidia-cuda-nvrtc", major: 13 },
  "libcudnn.so.9": { name: "nvidia-cudnn-cu13", major: 9 },
};

/** Where `qedit setup --libraries` puts them. */
export function ownLibraries(): string {
  return join(folderFor("data"), "runtime", "cuda-13");
}
