// qedit diff: compares two pictures by their recipes and pixels.

import type { Recipe } from "../../artifacts/recipe.js";
import { EXIT } from "../../edit/error-table.js";
import { defaulted, optional } from "../../edit/parameters/parameter.js";
import { text, toggle } from "../../edit/parameters/parameter-kinds.js";
import { PICTURE_PARAMETERS } from "../../edit/parameters/table.js";
import {
  comparePixels,
  comparisonText,
  type RecipeDifference,
  recipeDifferences,
} from "../../edit/recipe/compare-recipes.js";
import { pictureBytes, recipeAmong } from "../../edit/recipe/recipe-of-file.js";
import { heatMap } from "../../image/compare/difference.js";
import type { Image } from "../../image/image.js";
import { pictureTexts } from "../../image/io/description.js";
import { readWithAlpha } from "../../image/io/read.js";
import { encodePicture } from "../../image/io/write.js";
import type { PictureSource } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { checkInputs, inputSources } from "../files/input.js";
import { checkOutput, writeOutput } from "../files/output.js";
import { pictureFormat, picturePath } from "../files/picture-output.js";
import { STREAM } from "../io.js";
import { shown } from "../render/shown.js";
import { writeOptions } from "../settings/shared-options.js";

const options = {
  output: optional(text, {
    summary: "write a heat map of the difference; - is stdout",
    group: "Output",
    scope: "call",
    short: "o",
    placeholder: "<file>",
  }),
  force: writeOptions.force,
  format: PICTURE_PARAMETERS.format,
  exitCode: defaulted(toggle, false, { summary: "exit with 1 when pixels differ", group: "Output", scope: "call" }),
};

/** Longest value in the table, and characters of a hash in it. */
const MAX_SHOWN = 48;
const SHOWN_HASH = 12;

/** `qedit diff a.png b.png`. */
export const diff = defineCommand({
  description: "Say why two pictures differ: recipes and pixels",
  examples: [
    "qedit diff a.png b.png",
    "qedit diff a.png b.png -o difference.png",
    "qedit diff a.png b.png --exit-code --quiet",
  ],
  positionals: [
    ["<first>", "a picture; - is stdin"],
    ["<second>", "another one"],
  ],
  options,
  async perform({ args, settings }, terminal) {
    checkInputs(args, terminal.io);
    const { force } = settings;
    const output = settings.output === undefined ? undefined : picturePath(settings, args[0]!, "-diff");
    if (output !== undefined) await checkOutput(output, settings, terminal);
    const [first, second] = await inputSources(args, terminal.io);
    const [a, b] = [await readDescribed(first!), await readDescribed(second!)];
    const pixels = comparePixels(a.image, b.image);
    const differences = a.recipe && b.recipe ? recipeDifferences(a.recipe, b.recipe) : undefined;
    if (output !== undefined) {
      if ("sizes" in pixels)
        throw new QeditError("QEDIT_E_IMAGE", `Cannot draw the difference of ${pixels.sizes.join(" and ")}`, {
          hint: "Leave out -o, or compare pictures of one size",
        });
      await writeOutput(
        output,
        await encodePicture(heatMap(a.image, b.image), { format: pictureFormat(output, settings.format) }),
        { force, terminal },
      );
    }
    const lines = [
      ...recipeReport([a, b], differences),
      comparisonText(pixels),
      ...(output === undefined ? [] : [`heat map: ${output}`]),
    ];
    const record = {
      files: args,
      recipes: [a.recipe !== undefined, b.recipe !== undefined],
      differences: differences ?? null,
      pixels,
      output: output ?? null,
    };
    if (output !== STREAM) terminal.result(record, lines);
    const isDifferent = "sizes" in pixels || !pixels.identical;
    return settings.exitCode && isDifferent ? EXIT.runtime : EXIT.ok;
  },
});

interface Described {
  readonly file: string;
  readonly image: Image;
  readonly recipe: Recipe | undefined;
}

async function readDescribed(source: PictureSource): Promise<Described> {
  const [file, bytes] =
    typeof source === "string" ? [source, await pictureBytes(source)] : [source.name, Buffer.from(source.bytes)];
  return { file, image: await readWithAlpha(bytes, file), recipe: recipeAmong(pictureTexts(bytes)) };
}

function recipeReport(
  pictures: readonly [Described, Described],
  differences: readonly RecipeDifference[] | undefined,
): string[] {
  if (differences === undefined)
    return pictures.filter(({ recipe }) => recipe === undefined).map(({ file }) => `${file} has no recipe`);
  if (differences.length === 0) return ["recipes: equal"];
  const rows = differences.map(
    ({ group, what, a, b }) =>
      [what, valueOf(pictures[0], { group, what }, a), valueOf(pictures[1], { group, what }, b)] as const,
  );
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return differences.flatMap(({ group }, index) => {
    const [what, a, b] = rows[index]!;
    const heading = differences[index - 1]?.group === group ? [] : [`${group}:`];
    return [...heading, `  ${what.padEnd(widths[0]!)}  ${a.padEnd(widths[1]!)}  ${b}`];
  });
}

// A hash is shown with the name of its file.
function valueOf(
  { recipe }: Described,
  { group, what }: Pick<RecipeDifference, "group" | "what">,
  value: unknown,
): string {
  if ((group !== "inputs" && group !== "weights") || typeof value !== "string") return shown(value, MAX_SHOWN);
  return shown(`${recipe?.names[what] ?? "unnamed"} ${value.slice(0, SHOWN_HASH)}…`, MAX_SHOWN);
}
