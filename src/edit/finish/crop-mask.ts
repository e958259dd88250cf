// Editing only the region around a mask, at full resolution: picture 1 is cropped to it, the crop is edited at about a megapixel and put back.
import type { Box, Image, Size } from "../../image/image.js";
import { maskBox, maskLevels } from "../../image/paste/mask-levels.js";
import { param, QeditError } from "../../std/errors.js";

/** The parameters of cropping to a mask. */
export interface CropMaskSettings {
  /** Whether only the region around the mask is edited. */
  readonly cropMask: boolean;
  /** Pixels of picture 1 around the mask that the models see too; undefined: a quarter of the mask's longer side, LEAST_MARGIN at least. */
  readonly maskMargin: number | undefined;
}

const MARGIN = 1 / 4;
const LEAST_MARGIN = 64;

/** Throws QEDIT_E_USAGE for parameters without effect. */
export function checkCropMask({ cropMask, maskMargin }: CropMaskSettings, mask: object | undefined): void {
  if (cropMask && mask === undefined)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("crop_mask")}: there is no mask`, {
      hint: `Name a picture, white where the edit belongs: ${param("mask", "FILE")}`,
      parameter: "crop_mask",
    });
  if (maskMargin !== undefined && !cropMask)
    throw new QeditError("QEDIT_E_USAGE", `${param("mask_margin")} has no effect without ${param("crop_mask")}`, {
      hint: `Add ${param("crop_mask")}, or leave out ${param("mask_margin")}`,
      parameter: "mask_margin",
    });
}

/**
 * The settings of an edit with the region that is edited, if only that around the mask is: the result then has picture 1's size and its own pixels
 * outside the mask. `size` is that of picture 1.
 */
export function withRegion<Settings extends CropMaskSettings & { keepSize: boolean; pasteBack: boolean }>(
  settings: Settings,
  { size, mask }: { readonly size: Size | undefined; readonly mask: Image | undefined },
): Settings & { readonly region?: Box } {
  if (!settings.cropMask || size === undefined || mask === undefined) return settings;
  const region = regionOf(size, mask, settings.maskMargin);
  return region === undefined ? settings : { ...settings, keepSize: true, pasteBack: true, region };
}

// undefined for a black mask, which is refused elsewhere.
function regionOf(size: Size, mask: Image, wanted: number | undefined): Box | undefined {
  const white = maskBox(maskLevels(mask));
  if (white === undefined) return undefined;
  const scale = { x: size.width / mask.width, y: size.height / mask.height };
  const longest = Math.max(white.width * scale.x, white.height * scale.y);
  const margin = wanted ?? Math.max(Math.round(longest * MARGIN), LEAST_MARGIN);
  const along = (start: number, length: number, { factor, whole }: { factor: number; whole: number }) => {
    const first = Math.max(Math.floor(start * factor) - margin, 0);
    return [first, Math.min(Math.ceil((start + length) * factor) + margin, whole) - first] as const;
  };
  const [x, width] = along(white.x, white.width, { factor: scale.x, whole: size.width });
  const [y, height] = along(white.y, white.height, { factor: scale.y, whole: size.height });
  return { x, y, width, height };
}
