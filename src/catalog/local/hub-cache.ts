// The Hugging Face cache: models--OWNER--NAME/snapshots/REVISION/… are links into blobs, and are used in place.
import { readdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { HubFile } from "../published/models-schema.js";
import { isFile } from "./model-folders.js";

/** The cache's folder, as huggingface_hub places it. */
export function hubCacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env;
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(hubHome(), "hub");
}

/** The folder of huggingface_hub, which contains the token. */
export function hubHome(): string {
  const { HF_HOME, XDG_CACHE_HOME } = process.env;
  return HF_HOME || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
}

/** A published file in the cache, at its own revision or else at the newest known one; undefined when it is not there. */
export async function findInHubCache({ repository, path, revision }: HubFile): Promise<string | undefined> {
  const folder = join(hubCacheFolder(), `models--${repository.replace("/", "--")}`);
  const main = await readFile(join(folder, "refs", "main"), "utf8").catch(() => "");
  const others = await readdir(join(folder, "snapshots")).catch(() => []);
  for (const snapshot of [revision, main.trim(), ...others].filter((name) => name !== "")) {
    const place = join(folder, "snapshots", snapshot, path);
    if (await isFile(place)) return place;
  }
  return undefined;
}
