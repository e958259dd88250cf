// Draws previews above the moving line: rows for them are made once, later ones are drawn over the one before.
import type { Output } from "../../io.js";
import type { MovingLine } from "../moving-line.js";
import type { TerminalPicture } from "./terminal-picture.js";

/** The place for previews. One that comes when nothing is sampled is not drawn. */
export interface PictureAbove {
  readonly draw: (picture: TerminalPicture) => void;
  /** Takes the picture and its rows from the screen. */
  readonly erase: () => void;
  /** Sampling goes on: previews are drawn. */
  readonly begin: () => void;
  /** It does not: one that comes late is not drawn. */
  readonly refuse: () => void;
  /** Nothing is drawn any more. */
  readonly end: () => void;
}

/** Makes it above a line of stderr. */
export function pictureAbove(line: MovingLine, stderr: Output): PictureAbove {
  let shown: TerminalPicture | undefined;
  let state: "wanted" | "refused" | "ended" = "refused";
  const erase = () => {
    // Up to its first row, and everything from there away.
    if (shown) stderr.write(`${shown.remove}\r\u001b[${shown.rows}A\u001b[J`);
    shown = undefined;
  };
  return {
    erase,
    begin: () => void (state = state === "ended" ? state : "wanted"),
    refuse: () => void (state = state === "ended" ? state : "refused"),
    end: () => void (state = "ended"),
    draw(picture) {
      if (state !== "wanted") return;
      const place = () => {
        if (shown?.rows !== picture.rows) {
          erase();
          stderr.write("\n".repeat(picture.rows));
        }
        // The cursor comes back to where it was in the line below.
        stderr.write(`\u001b7\r\u001b[${picture.rows}A${picture.draw}\u001b8`);
        shown = picture;
      };
      if (shown?.rows === picture.rows && line.isBar()) place();
      else line.around(place);
    },
  };
}
