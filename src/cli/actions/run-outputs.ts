// What a call of `run` writes: opened by `run`, and only checked by its plan.
import { checkKept } from "../files/kept-files.js";
import { checkOutput, type Overwriting } from "../files/output.js";
import { openPreview, type PreviewFile } from "../files/preview-file.js";
import { openSheet, type Sheet } from "../files/sheet-output.js";
import type { Terminal } from "../render/terminal.js";

/** The flags of what is written beside the results. */
interface OutputSettings extends Overwriting {
  readonly sheet?: string | undefined;
  readonly preview?: string | undefined;
}

/** The results of a call, and the folders of what is kept of each. */
export interface RunOutputs {
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
  { paths, kept }: RunOutputs,
  settings: OutputSettings,
  terminal: Terminal,
  checked: <T>(checking: Promise<T>) => Promise<T | undefined> = (checking) => checking,
): Promise<{ readonly sheet: Sheet | undefined; readonly preview: PreviewFile | undefined }> {
  for (const path of paths) await checked(checkOutput(path, settings, terminal));
  for (const folder of kept) await checked(checkKept(folder, settings, terminal));
  const sheet = await checked(openSheet(settings.sheet, settings, terminal));
  const preview = await checked(openPreview(settings.preview, settings, terminal));
  return { sheet, preview };
}
