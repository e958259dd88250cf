// --sheet: draws the pictures of a call on one contact sheet, each beside its original.

import type { FloatImage, Image } from "../../image/image.js";
import { encodePicture, formatOf } from "../../image/io/write.js";
import { contactSheet, type SheetCell, sheetCell } from "../../image/sheet/contact-sheet.js";
import type { Terminal } from "../render/terminal.js";
import { checkOutput, type Overwriting, writeOutput } from "./output.js";

/** A contact sheet; pictures are added as they are made. */
export interface Sheet {
  /** Adds a group of labelled pictures that stay together; groups are sorted by `place`. */
  readonly add: (
    place: number,
    pictures: readonly (readonly [label: string, picture: Image | FloatImage])[],
  ) => Promise<void>;
  /** Writes the file and returns its path; undefined if there are no pictures. */
  readonly write: () => Promise<string | undefined>;
}

/** Opens the sheet of a call; undefined without --sheet. Throws if it could not be written later: QEDIT_E_USAGE, QEDIT_E_EXISTS, QEDIT_E_IO. */
export async function openSheet(
  path: string | undefined,
  overwriting: Overwriting,
  terminal: Terminal,
): Promise<Sheet | undefined> {
  if (path === undefined) return undefined;
  const format = formatOf(path);
  await checkOutput(path, overwriting, terminal);
  const groups = new Map<number, readonly SheetCell[]>();
  return {
    async add(place, pictures) {
      groups.set(place, await Promise.all(pictures.map(([label, picture]) => sheetCell(label, picture))));
    },
    async write() {
      if (groups.size === 0) return undefined;
      const ordered = [...groups].sort(([a], [b]) => a - b).map(([, cells]) => cells);
      // Groups of equal length stay in one row. With several seeds the original is a group of its own, and rows are free.
      const inRow = ordered.every((cells) => cells.length === ordered[0]!.length) ? ordered[0]!.length : 1;
      await writeOutput(path, await encodePicture(contactSheet(ordered.flat(), { inRow }), { format }), {
        force: overwriting.force,
        terminal,
      });
      return path;
    },
  };
}
