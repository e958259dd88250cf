// A whole edit by one call of another qedit: pictures and settings go there, the decoded picture and its recipe come back.
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import type { Image } from "../../image/image.js";
import { bytesTensor } from "../../kserve/v2-tensor.js";
import { type Picture, pictureHashes, pictureNames } from "../../stages/pictures.js";
import { STAGES } from "../../stages/stage.js";
import { EDIT_PARAMETERS } from "../parameters/table.js";
import { remoteProgress } from "./remote-events.js";
import { type RemoteModel, unfit } from "./remote-model.js";
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

/** The decoded picture, and its record. Throws QEDIT_E_NETWORK, and what the server refuses. */
export async function editElsewhere(
  model: RemoteModel,
  { pictures, mask, settings }: WholeEdit,
  { emit, signal, warnUnverified }: RemoteContext & Pick<RemoteStages, "warnUnverified">,
): Promise<{ readonly image: Image; readonly info: ArtifactInfo }> {
  const isCropped = settings["cropMask"] === true && mask !== undefined;
  const own = isCropped ? ["pasteBack", "keepExif", "noMetadata", "mask"] : [...AFTERWARDS, "cropMask", "maskMargin"];
  const keys = Object.keys(EDIT_PARAMETERS).filter((key) => !own.includes(key));
  const expected = await expectedWeights(STAGES, settings, {});
  const answer = await model.infer(
    {
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
    { emit, signal, onProgress: remoteProgress(emit, { hasStages: true }) },
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
  return { image, info: { ...info, names: { ...info.names, ...pictureNames(pictures) } } };
}

async function maskTensors(mask: Picture) {
  return [bytesTensor("MASK", [await fileOf(mask)]), bytesTensor("MASK_NAME", [pictureNames([mask])["image.1"]!])];
}
