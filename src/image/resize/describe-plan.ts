// A size plan as lines of text: what is done to every picture, and what comes out.
import type { Box, Size } from "../image.js";
import { type SizePlan, stretch } from "./size-plan.js";

/** The smallest stretch that is shown. */
const LEAST_SHOWN_STRETCH = 0.0005;

/** Enlargements by this many times the pixels and more are shown. */
const LEAST_SHOWN_ENLARGEMENT = 1.5;

/** One line for each picture: sizes at every stage, and what was cut off the source (pixels, both ends together) or how far it was stretched. */
export function describePlan(
  plan: SizePlan,
  { keepSize = false, region }: { readonly keepSize?: boolean; readonly region?: Box | undefined } = {},
): string[] {
  const [first] = plan.images;
  const written = keepSize && first ? first.source : plan.target.size;
  const part =
    region &&
    ` (edited ${show(region)} around the mask${enlargement(plan.target.size, region).replace(/^ \(/, ", ").replace(/\)$/, "")})`;
  const output = `output ${show(written)}${part ?? enlargement(plan.target.size, written)}`;
  if (plan.images.length === 0) return [`no picture: ${output}`];
  return plan.images.map(({ name, source, vision, reference }, index) => {
    const cut = { width: source.width - reference.box.width, height: source.height - reference.box.height };
    const isRegion = region !== undefined && index === 0;
    const cropped = isRegion
      ? ""
      : cut.width + cut.height > 0
        ? ` (crop ${show(cut)})`
        : stretched(source, reference.size);
    const stages = [
      `reference ${show(reference.size)}${cropped}`,
      `vision ${show(vision.size)} (${vision.tokens} tokens)`,
      `latent ${show(reference.latent)} (${reference.tokens} tokens)`,
    ];
    return `${name} ${show(source)}: ${stages.join(", ")}${index === 0 ? ` → ${output}` : ""}`;
  });
}

/** What an output of another size than the models make is resized from, and by how much, for the end of a line; empty when it is not. */
export function enlargement(made: Size, written: Size): string {
  if (made.width === written.width && made.height === written.height) return "";
  const factor = (written.width * written.height) / (made.width * made.height);
  const far =
    factor < LEAST_SHOWN_ENLARGEMENT
      ? ""
      : `, which has ${factor < 10 ? factor.toFixed(1) : Math.round(factor)} times fewer pixels`;
  return ` (resized from ${show(made)}${far})`;
}

function stretched(source: Size, size: Size): string {
  const share = stretch(source, size);
  return share < LEAST_SHOWN_STRETCH ? "" : ` (stretched ${(share * 100).toFixed(1)} %)`;
}

function show({ width, height }: Size): string {
  return `${width}x${height}`;
}
