// A whole edit by one call: of another qedit, to which pictures and settings go, and from which the decoded picture and its recipe come back; or of an
// exported model.
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import type { Image } from "../../image/image.js";
import { bytesTensor } from "../../kserve/v2-tensor.js";
import { usesNegative } from "../../sampling/guidance.js";
import { type Picture, pictureHashes, pictureNames } from "../../stages/pictures.js";
import { STAGES } from "../../stages/stage.js";
import { EDIT_PARAMETERS } from "../parameters/table.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import { editThere } from "./exported-edit.js";
import { heldToEdit } from "./exported-weights.js";
import { remoteProgress } from "./remote-events.js";
import { formOfEdit } from "./remote-forms.js";
import { type RemoteModel, type RemoteServer, unfit } from "./remote-model.js";
import { WHOLE } from "./remote-servers.js";
import type { RemoteContext, RemoteStages } from "./remote-stages.js";
import { expectedWeights, unverifiedWeights } from "./remote-weights.js";
import { readPictureOf, wrongSetting } from "./stage-answers.js";
import {
  fileOf,
  loraTensors,
  ownSettings,
  pictureTensors,
  promptTensors,
  type RemoteSettings,
  sentValues,
} from "./stage-tensors.js";

/** A whole edit. */
export interface WholeEdit {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
  readonly settings: RemoteSettings;
}

/** What comes after decoding is done here; the mask decides what is edited only where it is cropped to. */
const AFTERWARDS = ["mask", "feather", "pasteBack", "keepExif", "noMetadata"];

/** A decoded picture and its record. */
interface EditedElsewhere {
  readonly image: Image;
  readonly info: ArtifactInfo;
  /** Whether a picture that was cropped to a mask is back in its place. */
  readonly isPlaced: boolean;
}

type Context = RemoteContext & Pick<RemoteStages, "warnUnverified">;

/** The decoded picture, and its record. Throws QEDIT_E_NETWORK, and what the server refuses. */
export function editElsewhere(model: RemoteModel, edit: WholeEdit, context: Context): Promise<EditedElsewhere> {
  const { pictures, settings } = edit;
  const count = pictures.length;
  return model.ask(context, async (server) => {
    const form = await formOfEdit(server, { images: count, hasCfg: usesNegative(settings["cfg"] as number) });
    if (form === "qedit") return editByQedit(server, edit, context);
    const unverified = await heldToEdit(form, { settings, count, models: {} });
    const made = await editThere(form, { pictures, settings: settings as unknown as ResolvedSettings }, context);
    context.warnUnverified(unverified, form.from, context.emit);
    return { ...made, isPlaced: false };
  });
}

async function editByQedit(
  server: RemoteServer,
  { pictures, mask, settings }: WholeEdit,
  { emit, warnUnverified }: Context,
): Promise<EditedElsewhere> {
  const isCropped = settings["cropMask"] === true && mask !== undefined;
  const own = isCropped ? ["pasteBack", "keepExif", "noMetadata", "mask"] : [...AFTERWARDS, "cropMask", "maskMargin"];
  const keys = Object.keys(EDIT_PARAMETERS).filter((key) => !own.includes(key));
  const expected = await expectedWeights(STAGES, settings, {});
  const answer = await server.infer(
    {
      model: WHOLE,
      tensors: [
        ...promptTensors(settings),
        ...(await pictureTensors(pictures)),
        ...(isCropped ? await maskTensors(mask) : []),
        ...loraTensors(settings),
      ],
      parameters: {
        ...sentValues(keys, settings),
        ...(settings.model !== undefined && { model: settings.model }),
        ...{ resolved: true, format: "png", no_metadata: true },
      },
    },
    remoteProgress(emit, { hasStages: true }),
  );
  const { image, info } = await readPictureOf(answer);
  const hashes = { ...pictureHashes(pictures), ...(isCropped && { mask: mask.hash }) };
  const isOther = Object.entries(hashes).some(([role, hash]) => info.inputs[role] !== hash);
  const fault = isOther
    ? "its record is of other pictures"
    : STAGES.map((stage) => wrongSetting(info, { stage, settings: ownSettings(stage, settings) })).find(
        (each) => each !== undefined,
      );
  if (fault !== undefined) throw unfit(answer.from, fault);
  warnUnverified(unverifiedWeights(info, expected, answer), answer.from, emit);
  const named = { ...info, names: { ...info.names, ...pictureNames(pictures) } };
  return { image, info: named, isPlaced: isCropped };
}

async function maskTensors(mask: Picture) {
  return [bytesTensor("MASK", [await fileOf(mask)]), bytesTensor("MASK_NAME", [pictureNames([mask])["image.1"]!])];
}
