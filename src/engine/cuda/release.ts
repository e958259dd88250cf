// The installed release of onnxruntime-node, and the folders that may have its CUDA provider.
import { access } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { folderFor } from "../../std/own-folders.js";

/** Files of the CUDA provider: the provider itself, and the bridge between it and ONNX Runtime. */
export const PROVIDER_FILES = ["libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"] as const;

/** ONNX Runtime's core library. It looks for providers in the folder that it was loaded from. */
export const CORE_FILE = "libonnxruntime.so.1";

/** The only platform for which onnxruntime-node's binding is built with CUDA (its README, table of 1.29). */
const CUDA_PLATFORM = "linux-x64";

/** An installed release. */
export interface Release {
  /** Version of onnxruntime-node; the provider must be of the same one, since their interface is not stable. */
  readonly version: string;
  /** Node's names of the system and the architecture: `linux-x64`. */
  readonly platform: string;
  readonly hasCuda: boolean;
  /** onnxruntime-node's folder of native libraries. */
  readonly folder: string;
  /** qedit's own folder for this release: it survives updates and npx's cache, and is writable where node_modules is not. */
  readonly ownFolder: string;
}

/** The release that qedit loads. */
export function installedRelease(): Release {
  const require = createRequire(import.meta.url);
  const root = dirname(dirname(require.resolve("onnxruntime-node")));
  const { version } = require(join(root, "package.json")) as { version: string };
  const platform = `${process.platform}-${process.arch}`;
  return {
    version,
    platform,
    hasCuda: platform === CUDA_PLATFORM,
    folder: join(root, "bin", "napi-v6", process.platform, process.arch),
    ownFolder: join(folderFor("data"), "runtime", `onnxruntime-${version}-${platform}`),
  };
}

/** Folder of the CUDA provider, qedit's own before that of onnxruntime-node; undefined when neither has all files. */
export async function providerFolder(
  { ownFolder, folder, hasCuda }: Release = installedRelease(),
): Promise<string | undefined> {
  if (!hasCuda) return undefined;
  const wanted: readonly (readonly [folder: string, files: readonly string[]])[] = [
    [ownFolder, [...PROVIDER_FILES, CORE_FILE]],
    [folder, PROVIDER_FILES],
  ];
  for (const [place, files] of wanted) {
    const found = await Promise.all(
      files.map((file) =>
        access(join(place, file)).then(
          () => true,
          () => false,
        ),
      ),
    );
    if (found.every(Boolean)) return place;
  }
  return undefined;
}
