// The release of onnxruntime-node that is installed, and the places where its CUDA provider may lie.
import { access } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { folderFor } from "../../std/own-folders.js";

/** Files of the CUDA provider: the provider itself, and the bridge between it and ONNX Runtime. */
export const PROVIDER_FILES = ["libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"] as const;

/** ONNX Runtime's own library. It looks for providers in the folder that it was itself loaded from. */
export const CORE_FILE = "libonnxruntime.so.1";

/** The one platform that onnxruntime-node's binding is built with CUDA for (its README, table of 1.29). */
const CUDA_PLATFORM = "linux-x64";

/** What is installed here. */
export interface Release {
  /** Version of onnxruntime-node, which the provider's must equal: they share no stable interface. */
  readonly version: string;
  /** Node's names of the system and the architecture: `linux-x64`. */
  readonly platform: string;
  readonly hasCuda: boolean;
  /** onnxruntime-node's folder of native libraries. */
  readonly folder: string;
  /** qedit's own folder for this release: survives updates and npx's cache, and can be written to when node_modules cannot. */
  readonly ownFolder: string;
}

/** The release that qedit would load. */
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

/** Where the CUDA provider lies; qedit's own folder comes first, being what `qedit setup` looked at. */
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
