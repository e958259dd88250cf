// The model files of a measurement: random weights in the exact published layouts, or the tiny files of the repository for a rehearsal.
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fileBytes, type PublishedName, publishedTensors } from "../../fixtures/headers/published.js";
import { randomCheckpoint } from "../random-checkpoint.js";

/** Paths of an edit's model files. */
export interface ModelFiles {
  readonly vae: string;
  readonly textEncoder: string;
  readonly transformer: string;
  readonly lora: string;
}

const PUBLISHED: Readonly<Record<keyof ModelFiles, PublishedName>> = {
  vae: "qwen_image_vae",
  textEncoder: "qwen_2.5_vl_7b_fp8_scaled",
  transformer: "qwen_image_edit_2509_fp8_e4m3fn",
  lora: "lightning_lora_bf16",
};

/** Further disk space: pictures, events, PyTorch's caches. */
const ROOM = 2e9;

/** The tiny files. */
export function tinyFiles(): ModelFiles {
  const tiny = (name: string) => join(repositoryRoot(), "fixtures/tiny", `${name}.safetensors`);
  return {
    vae: tiny("vae"),
    textEncoder: tiny("text-encoder"),
    transformer: tiny("transformer"),
    lora: tiny("loras/published"),
  };
}

/** Writes the four files at full size, 31 GB; throws before writing if they do not fit. */
export async function writeFullFiles(
  folder: string,
  say: (text: string) => void,
): Promise<{ files: ModelFiles; bytes: number }> {
  const roles = Object.keys(PUBLISHED) as (keyof ModelFiles)[];
  const bytes = roles.reduce((sum, role) => sum + fileBytes(publishedTensors(PUBLISHED[role])), 0);
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < bytes + ROOM) {
    throw new Error(
      `Cannot write ${(bytes / 1e9).toFixed(1)} GB of weights to ${folder}: ${((bavail * bsize) / 1e9).toFixed(1)} GB are free; give another place with --folder`,
    );
  }
  const paths: Partial<Record<keyof ModelFiles, string>> = {};
  for (const role of roles) {
    say(`writing ${PUBLISHED[role]}`);
    paths[role] = join(folder, `${PUBLISHED[role]}.safetensors`);
    await randomCheckpoint(paths[role], publishedTensors(PUBLISHED[role]));
  }
  return { files: paths as ModelFiles, bytes };
}

/** The folder of package.json, wherever this file was compiled to. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}
