// Compares two pictures: their recipes value by value, and their pixels.
import type { Recipe } from "../../artifacts/recipe.js";
import { type PixelDifference, pixelDifference } from "../../image/compare/difference.js";
import type { Image } from "../../image/image.js";

/** What a difference is about. Different `names` do not change the picture. */
export type DifferenceGroup = "settings" | "inputs" | "weights" | "sizes" | "versions" | "names";

/** One value that differs; undefined where a recipe lacks it. */
export interface RecipeDifference {
  readonly group: DifferenceGroup;
  /** Path in the recipe without the group: `sample.seed`. */
  readonly what: string;
  readonly a: unknown;
  readonly b: unknown;
}

const ORDER: readonly DifferenceGroup[] = ["settings", "inputs", "weights", "sizes", "versions", "names"];

/** Fields of a stage's settings that describe software and hardware, not the request. */
const VERSIONS = /(^|\.)(version|runtime|device|compute_type)$/;

/** All differences of two recipes, settings first. */
export function recipeDifferences(a: Recipe, b: Recipe): RecipeDifference[] {
  const [left, right] = [leaves(a), leaves(b)];
  const paths = [...new Set([...left.keys(), ...right.keys()])].filter(
    (path) => left.get(path)?.text !== right.get(path)?.text,
  );
  const found = paths.map((path) => ({ ...placeOf(path), a: left.get(path)?.value, b: right.get(path)?.value }));
  return found.sort((one, other) => ORDER.indexOf(one.group) - ORDER.indexOf(other.group));
}

/** How the pixels of two pictures compare: their difference, or the sizes that cannot be compared. */
export type PixelComparison = PixelDifference | { readonly sizes: readonly [string, string] };

/** Compares the pixels of two pictures, their transparency too. */
export function comparePixels(a: Image, b: Image): PixelComparison {
  if (a.width !== b.width || a.height !== b.height)
    return { sizes: [`${a.width}x${a.height}`, `${b.width}x${b.height}`] };
  return pixelDifference(a, b);
}

/** A comparison as text. */
export function comparisonText(comparison: PixelComparison): string {
  if ("sizes" in comparison) return `pixels: cannot be compared, ${comparison.sizes[0]} and ${comparison.sizes[1]}`;
  const { identical, psnr, max, mean, share } = comparison;
  if (identical) return "pixels: identical";
  const percent = (share * 100).toFixed(share < 0.001 ? 4 : 1);
  return `pixels: ${percent} % differ, PSNR ${psnr!.toFixed(1)} dB, by up to ${max} of 255, ${mean.toFixed(2)} on average`;
}

function placeOf(path: string): { group: DifferenceGroup; what: string } {
  if (path === "qedit" || path === "recipe") return { group: "versions", what: path };
  const [group, ...rest] = path.split(".") as [DifferenceGroup, ...string[]];
  const what = rest.join(".");
  return { group: group === "settings" && VERSIONS.test(what) ? "versions" : group, what };
}

interface Leaf {
  readonly value: unknown;
  readonly text: string;
}

function leaves(recipe: Recipe): Map<string, Leaf> {
  const found = new Map<string, Leaf>();
  const visit = (value: unknown, path: string): void => {
    const isList = Array.isArray(value) && value.every((each) => typeof each !== "object" || each === null);
    if (typeof value !== "object" || value === null || isList)
      found.set(path, { value, text: JSON.stringify(value) ?? "" });
    else for (const [key, below] of Object.entries(value)) visit(below, path === "" ? key : `${path}.${key}`);
  };
  visit(recipe, "");
  return found;
}
