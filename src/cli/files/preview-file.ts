// The file of --preview: replaced by each preview; one that comes while another is written replaces those that wait.
import type { Image } from "../../image/image.js";
import { encodePicture, formatOf } from "../../image/io/write.js";
import { QeditError } from "../../std/errors.js";
import { writeFileAtomically } from "../../std/files.js";
import { STREAM } from "../io.js";
import type { Terminal } from "../render/terminal.js";
import { checkOutput, type Overwriting } from "./output.js";

/** Writes previews. */
export interface PreviewFile {
  readonly show: (image: Image) => void;
  /** Waits for the last preview. */
  readonly done: () => Promise<void>;
}

/** Opens the file of a call; undefined without one. Throws QEDIT_E_USAGE for a name without a known format or for stdout, and as checkOutput. */
export async function openPreview(
  path: string | undefined,
  overwriting: Overwriting,
  terminal: Terminal,
): Promise<PreviewFile | undefined> {
  if (path === undefined) return undefined;
  if (path === STREAM)
    throw new QeditError("QEDIT_E_USAGE", "Cannot write previews to stdout", {
      hint: "Name a file: --preview now.png",
    });
  const format = formatOf(path);
  await checkOutput(path, overwriting, terminal);
  let waiting: Image | undefined;
  let writing: Promise<void> | undefined;
  const write = async () => {
    for (let image = waiting; image !== undefined; image = waiting) {
      waiting = undefined;
      await writeFileAtomically(path, await encodePicture(image, { format }));
    }
  };
  return {
    show(image) {
      waiting = image;
      writing ??= write()
        .catch((error: Error) => terminal.emit({ kind: "warning", text: `no preview: ${error.message}` }))
        .finally(() => (writing = undefined));
    },
    done: async () => writing,
  };
}
