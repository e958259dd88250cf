// What a call of `run` writes: opened by `run`, and only checked by its plan.
import { checkKept } from "../files/kept-files.js";
import { checkOutput, type Overwriting } from "../files/output.js";
import { openPreview, type PreviewFile } from "../files/preview-file.js";
import { asInputs, asResults, refuseSharedPaths } from "../files/shared-paths.js";
import { openSheet, type Sheet } from "../files/sheet-output.js";
import type { Terminal } from "../render/terminal.js";

/** The flags of what is written beside the results. */
interface OutputSettings extends Overwriting {
  readonly sheet?: string | undefined;
  readonly preview?: string | undefined;
}

/** The input files of a call, its results, and the folders of what is kept of each. */
export interface RunFiles {
  readonly inputs: readonly (string | undefined)[];
  readonly paths: readonly string[];
  readonly kept: readonly string[];
}

/** The folders of --keep: one for each seed of several. */
export function keptFolders(keep: string | undefined, seeds: readonly { readonly seed: bigint }[]): string[] {
  if (keep === undefined) return [];
  return seeds.length === 1 ? [keep] : seeds.map(({ seed }) => `${keep}/seed${seed}`);
}

/** Opens what a call writes. Throws if something could not be written later; a plan may take each failure instead, by `checked`. */
export async function openOutputs(
  { inputs, paths, kept }: RunFiles,
  settings: OutputSettings,
  terminal: Terminal,
  checked: <T>(checking: Promise<T>) => Promise<T | undefined> = (checking) => checking,
): Promise<{ readonly sheet: Sheet | undefined; readonly preview: PreviewFile | undefined }> {
  const { sheet: sheetPath, preview: previewPath } = settings;
  const besides = [
    { flag: "--sheet", path: sheetPath },
    { flag: "--preview", path: previewPath },
  ];
  await refuseSharedPaths(besides, [...asResults(paths), ...asInputs(inputs)]);
  for (const path of paths) await checked(checkOutput(path, settings, terminal));
  for (const folder of kept) await checked(checkKept(folder, settings, terminal));
  const sheet = await checked(openSheet(sheetPath, settings, terminal));
  const preview = await checked(openPreview(previewPath, settings, terminal));
  return { sheet, preview };
}
