// Removes what killed processes left, before many edits: also where nothing is left to do.
import { dirname } from "node:path";
import { removeLeftovers } from "../../std/temporary-files.js";
import { removeAbandonedScratch } from "./scratch-folder.js";

/** Removes abandoned temporary files beside these outputs, and abandoned folders of artifacts. */
export async function removeLeftoversBeside(outputs: readonly string[]): Promise<void> {
  await removeAbandonedScratch();
  for (const folder of new Set(outputs.map((path) => dirname(path)))) await removeLeftovers(folder);
}
