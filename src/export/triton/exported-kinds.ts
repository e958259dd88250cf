// Which whole edits an export has as models.
import type { EnsembleKind } from "../../edit/remote/exported-facts.js";
import type { TritonExport } from "./export-request.js";
import { pictureCounts } from "./tensor-specs.js";
import { tensorWidths } from "./tensor-widths.js";

/** The kinds of edits of an export: for each number of pictures, without guidance and with it. */
export function exportedKinds({ models, images, hasCfg }: TritonExport): EnsembleKind[] {
  const counts = pictureCounts(tensorWidths(models), images);
  return (hasCfg ? [false, true] : [false]).flatMap((isGuided) =>
    counts.map((count) => ({ images: count, hasCfg: isGuided })),
  );
}
