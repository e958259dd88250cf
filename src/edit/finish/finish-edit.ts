// From the decoded picture of an edit to its final one: its own file names, drift and pasting, the camera's EXIF.
import type { DecodedPicture } from "../../stages/decode.js";
import type { Picture } from "../../stages/pictures.js";
import type { Emit } from "../../std/events.js";
import { withOwnNames } from "../recipe/own-files.js";
import type { EditFiles } from "../resolve/resolve-edit.js";
import { type FinishedPicture, type FinishSettings, finish } from "./finish.js";

/** What an edit was made of; without files, the record's names of model files stay. */
interface Sources {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
  readonly files?: EditFiles | undefined;
}

/** The final picture of an edit. With `keepExif` there must be a picture 1. */
export async function finishEdit(
  decoded: DecodedPicture,
  { pictures, mask, files }: Sources,
  settings: FinishSettings & { readonly keepExif: boolean },
  emit: Emit,
): Promise<FinishedPicture> {
  const named = { ...decoded, info: withOwnNames(decoded.info, { pictures, mask, files }) };
  const made = await finish(named, { pictures, mask }, settings, emit);
  return settings.keepExif ? withExif(made, pictures[0]!, emit) : made;
}

function withExif(picture: FinishedPicture, { name, exif }: Picture, emit: Emit): FinishedPicture {
  if (exif !== undefined) return { ...picture, exif };
  emit({ kind: "note", text: `${name} has no EXIF that could be kept` });
  return picture;
}
