// qedit rerun: a picture once more, from its own recipe.
import { basename, dirname, extname, join } from "node:path";
import type { Recipe } from "../../artifacts/recipe.js";
import { parseRecipe, recipeText } from "../../artifacts/recipe.js";
import { findLora, findNamed } from "../../catalog/local/find.js";
import { comparePixels, comparisonText, type RecipeDifference, recipeDifferences } from "../../edit/compare-recipes.js";
import { driftRecord } from "../../edit/drift-text.js";
import { type EditSettings, edit, editOptions } from "../../edit/edit.js";
import {
  type FileSearch,
  findInputs,
  findLoras,
  findWeights,
  WEIGHT_ROLES,
  type WeightRole,
} from "../../edit/recipe-files.js";
import { pictureBytes, recipeIn } from "../../edit/recipe-of-file.js";
import { inputRoles, parseSettings, recipeSettings, type SettingTexts } from "../../edit/recipe-settings.js";
import { readImage } from "../../image/io/read.js";
import { encodeDecoded } from "../../stages/decode.js";
import { parseLora } from "../../stages/networks/loras.js";
import { repeated, type SettingsOf } from "../../stages/option.js";
import type { Picture } from "../../stages/pictures.js";
import { closest } from "../../std/closest.js";
import { QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { compute } from "../compute.js";
import { checkInputs, inputPictures } from "../files/input.js";
import { checkOutput, STREAM, writeOutput } from "../files/output.js";
import { format, pictureFormat } from "../files/picture-output.js";
import { shown } from "../render/shown.js";
import { computeOptions, flagsOf, writeOptions } from "../settings/options.js";

const { vae, textEncoder, transformer, lora } = editOptions;
const { modelsDir, threads, vram } = computeOptions;
const device = { ...computeOptions.device, initial: undefined, initialText: "that of the recipe", isPerCall: true };
const set = repeated({
  flags: "--set <key=value>",
  summary: "change an option of run, as in --set seed=7; an empty value is its default; repeatable",
  group: "Prompt",
});

const options = {
  set: { ...set, isPerCall: true },
  vae,
  textEncoder,
  transformer,
  lora,
  ...writeOptions,
  format,
  modelsDir,
  device,
  threads,
  vram,
};

type Settings = SettingsOf<typeof options>;

/** What --set may change: everything that decides a picture. */
const CHANGEABLE = { ...editOptions, device: computeOptions.device };

/** Characters of a changed value that are shown. */
const MOST_SHOWN = 60;

/** `qedit rerun out.png --set seed=7`. */
export const rerun = defineCommand({
  summary: "Make a picture again from its recipe, and say what differs",
  examples: [
    "qedit rerun out.png",
    "qedit rerun out.png --set seed=7 --set steps=8 -o seed-7.png",
    "qedit rerun out.png photos/cat.jpg --vae qwen_image_vae.safetensors",
  ],
  positionals: [
    ["<picture>", "a picture that qedit made"],
    ["[image...]", "the pictures that it was made from, when they lie elsewhere; - is stdin"],
  ],
  options,
  async perform({ args, settings, given: origins }, terminal) {
    const [file, ...given] = args as [string, ...string[]];
    checkInputs(given);
    const bytes = await pictureBytes(file);
    const recipe = recipeIn(bytes, file);
    const texts = changed(recipeSettings(recipe, file), settings.set);
    const path =
      settings.output ??
      join(
        dirname(file),
        `${basename(file, extname(file))}-rerun.${settings.format ?? (extname(file).slice(1) || "png")}`,
      );
    const written = pictureFormat(path, settings.format);
    await checkOutput(path, settings, terminal);
    const search = { picture: file, modelsDirs: settings.modelsDir, force: settings.force, emit: terminal.emit };
    const { complete, pictures } = await withFiles(recipe, {
      texts,
      given: await inputPictures(given),
      settings,
      search,
      insists: (setting) => origins.get(setting)?.layer === "flag",
    });
    const where = settings.device ?? texts["device"]?.[0] ?? "auto";
    const {
      value,
      device: used,
      seconds,
    } = await compute({ ...computeDefaults, ...settings, device: where }, terminal, async (context) => {
      const picture = await edit(
        { pictures, settings: { ...complete, ...dtypeFor(texts, { where, recipe }) }, keep: undefined },
        context,
      );
      const encoded = await encodeDecoded(picture, written);
      await writeOutput(path, encoded, { force: settings.force, terminal });
      return { picture, encoded };
    });
    const { info, drift } = value.picture;
    const pixels = comparePixels(await readImage(bytes, file), await readImage(value.encoded, path));
    const differences = recipeDifferences(recipe, parseRecipe(recipeText(info))!);
    for (const line of report(differences)) terminal.emit({ kind: "note", text: line });
    terminal.emit({ kind: "note", text: `against ${file}: ${comparisonText(pixels)}` });
    if (path !== STREAM)
      terminal.result(
        {
          output: path,
          kind: "picture",
          original: file,
          pixels,
          differences,
          info,
          drift: driftRecord(drift),
          device: used,
          seconds,
        },
        [path],
      );
  },
});

/** Settings of computing that rerun does not take. */
const computeDefaults = { model: undefined } as const;

// The recipe's settings with those of --set in their place, and without those that they make void.
function changed(texts: SettingTexts, pairs: readonly string[]): SettingTexts {
  const changes: Record<string, string[]> = {};
  for (const pair of pairs) {
    const { setting, value } = changeOf(pair);
    changes[setting] = [...(changes[setting] ?? []), value];
  }
  const result: Record<string, readonly string[]> = { ...texts };
  const voids: Readonly<Record<string, readonly string[]>> = {
    size: ["megapixels"],
    megapixels: ["size"],
    match: ["size"],
    device: ["dtype"],
  };
  for (const [setting, values] of Object.entries(changes)) {
    for (const other of voids[setting] ?? []) if (changes[other] === undefined) delete result[other];
    result[setting] = values.filter((value) => value !== "");
  }
  // A mask or feather of the recipe says nothing once pasting is off, nor does a negative prompt without guidance.
  if (changes["pasteBack"] && changes["feather"] === undefined) delete result["feather"];
  if (Number(result["cfg"]?.[0]) === 1 && changes["negativePrompt"] === undefined) delete result["negativePrompt"];
  return result;
}

function changeOf(pair: string): { setting: string; value: string } {
  const [, key, value] = /^(?:--)?([\w-]+)=([^]*)$/.exec(pair) ?? [];
  if (key === undefined || value === undefined) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot use "${pair}" for --set: KEY=VALUE is wanted`, {
      hint: "As in --set seed=7",
    });
  }
  const names = new Map(
    Object.entries(CHANGEABLE).flatMap(([setting, option]) =>
      flagsOf(option).longs.map((long) => [long.slice(2), setting] as const),
    ),
  );
  const setting = names.get(key);
  if (setting !== undefined) return { setting, value };
  const near = closest(key, [...names.keys()]);
  throw new QeditError("QEDIT_E_USAGE", `Cannot set "${key}": there is no such option that decides a picture`, {
    hint: near === undefined ? `It takes ${[...names.keys()].join(", ")}` : `Did you mean --set ${near}=${value}?`,
  });
}

interface Rerun {
  readonly texts: SettingTexts;
  readonly given: readonly Picture[];
  readonly settings: Settings;
  readonly search: FileSearch;
  /** Claims that a file was named for this call. One that stands in a settings file is only a place to look at. */
  readonly insists: (setting: string) => boolean;
}

// Settings with the files that they need. A file that --set names is a wish, and not checked against the recipe.
async function withFiles(
  recipe: Recipe,
  { texts, given, settings, search, insists }: Rerun,
): Promise<{ complete: EditSettings; pictures: readonly Picture[] }> {
  const files: Record<string, readonly string[]> = {};
  const options = { modelsDirs: search.modelsDirs };
  for (const [role, { setting }] of Object.entries(WEIGHT_ROLES)) {
    const own = texts[setting]?.[0];
    const written = settings[setting];
    const named = written !== undefined && insists(setting) ? await findNamed(written, options) : undefined;
    files[setting] = [
      own === undefined
        ? await findWeights(recipe, role as WeightRole, { ...search, named, usual: written })
        : await findNamed(own, options),
    ];
  }
  const lora = texts["lora"] ?? (await recipeLoras(recipe, { settings, search, insists }));
  const roles = inputRoles(recipe).filter(
    (role) => role !== "mask" || (texts["mask"] === undefined && texts["pasteBack"]?.[0] === "true"),
  );
  const found = await findInputs(recipe, roles, { ...search, given });
  const pictures: Picture[] = [];
  for (const [index, role] of roles.entries()) {
    const input = found[index]!;
    if (role === "mask") files["mask"] = [typeof input === "string" ? input : input.name];
    else pictures.push(typeof input === "string" ? (await inputPictures([input]))[0]! : input);
  }
  const named =
    texts["lora"] === undefined ? lora : await Promise.all(lora.map((written) => foundLora(written, options)));
  return {
    complete: parseSettings(editOptions, { ...texts, ...files, lora: named }) as unknown as EditSettings,
    pictures,
  };
}

async function recipeLoras(
  recipe: Recipe,
  { settings, search, insists }: Pick<Rerun, "settings" | "search" | "insists">,
): Promise<string[]> {
  const named = !insists("lora")
    ? []
    : await Promise.all(
        settings.lora.map((written) =>
          findLora(parseLora(written).path, { model: undefined, modelsDirs: search.modelsDirs }),
        ),
      );
  const { lora_strengths: strengths = [] } = (recipe.settings["sample"] ?? {}) as {
    lora_strengths?: readonly number[];
  };
  return (await findLoras(recipe, { ...search, named })).map((path, index) => `${path}:${strengths[index] ?? 1}`);
}

async function foundLora(written: string, { modelsDirs }: { modelsDirs: readonly string[] }): Promise<string> {
  const { path, strength } = parseLora(written);
  return `${await findLora(path, { model: undefined, modelsDirs })}:${strength}`;
}

// Another kind of device may not have the recipe's compute type; its own is meant then.
function dtypeFor(texts: SettingTexts, { where, recipe }: { where: string; recipe: Recipe }): { dtype?: string } {
  const { device: made } = (recipe.settings["sample"] ?? {}) as { device?: string };
  const isSame = made !== undefined && where.startsWith(made);
  return isSame || texts["dtype"] === undefined ? {} : { dtype: "auto" };
}

// Names of files change nothing, and one other size changes dozens of numbers.
function report(differences: readonly RecipeDifference[]): string[] {
  const sizes = differences.filter(({ group }) => group === "sizes").length;
  const told = differences.filter(({ group }) => group !== "names" && group !== "sizes");
  const lines = told.map(
    ({ group, what, a, b }) => `differs: ${group} ${what}: ${shown(a, MOST_SHOWN)} → ${shown(b, MOST_SHOWN)}`,
  );
  return sizes === 0 ? lines : [...lines, `differs: ${sizes} numbers about sizes (\`qedit diff\` lists them)`];
}
