// Implements `qedit rerun`: takes the settings of a recipe, applies --set, finds its files, makes the edit, and reports differences.
import { basename, dirname, extname, join } from "node:path";
import { parseRecipe, type Recipe, recipeText } from "../../artifacts/recipe.js";
import { findLora, findNamed } from "../../catalog/local/find.js";
import { driftRecord } from "../../edit/finish/drift-text.js";
import type { FinishedPicture } from "../../edit/finish/finish.js";
import type { QualitySettings } from "../../edit/finish/picture-encoding.js";
import { readValue } from "../../edit/parameters/parameter.js";
import { EDIT_PARAMETERS, type EditSettings, PICTURE_PARAMETERS } from "../../edit/parameters/table.js";
import {
  comparePixels,
  comparisonText,
  type RecipeDifference,
  recipeDifferences,
} from "../../edit/recipe/compare-recipes.js";
import { pictureBytes, recipeIn } from "../../edit/recipe/recipe-of-file.js";
import { inputRoles, readSettings, recipeSettings, type WrittenSettings } from "../../edit/recipe/recipe-settings.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import { openModels, type ResolvedEdit, withNumbers } from "../../edit/resolve/resolve-edit.js";
import { readWithAlpha } from "../../image/io/read.js";
import { encodeDecoded, encodedInfo, flattening } from "../../stages/decode.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { type NamedLora, parseLora } from "../../stages/networks/loras.js";
import type { Picture } from "../../stages/pictures.js";
import { closest } from "../../std/closest.js";
import { QeditError } from "../../std/errors.js";
import type { RerunSettings } from "../commands/rerun.js";
import { checkInputs, inputPictures } from "../files/input.js";
import { keepFilePaths } from "../files/known-files.js";
import { checkOutput, outputPath, writeOutput } from "../files/output.js";
import { pictureEncoding, refuseUselessQuality } from "../files/picture-output.js";
import {
  type FileSearch,
  findInputs,
  findLoras,
  findWeights,
  WEIGHT_ROLES,
  type WeightRole,
} from "../files/recipe-files.js";
import { STREAM } from "../io.js";
import { shown } from "../render/shown.js";
import type { Terminal } from "../render/terminal.js";
import { flagsOf } from "../settings/options.js";
import type { GivenSetting } from "../settings/settings.js";
import { computeOptions } from "../settings/shared-options.js";
import { withService } from "../with-service.js";

/** A call of `rerun`. */
interface RerunCall {
  readonly args: readonly string[];
  readonly settings: RerunSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Parameters that --set may change: those that affect the picture. */
const CHANGEABLE = { ...EDIT_PARAMETERS, device: computeOptions.device };

/** Longest value in a difference. */
const MAX_SHOWN = 60;

/** Makes a picture again, and reports what differs. */
export async function makeAgain({ args, settings, given: origins }: RerunCall, terminal: Terminal): Promise<void> {
  const { emit, io } = terminal;
  const [file, ...given] = args as [string, ...string[]];
  const bytes = await pictureBytes(file);
  const recipe = recipeIn(bytes, file);
  const written: WrittenSettings = {
    ...changed(recipeSettings(recipe, file), settings.set),
    ...(settings.allowEmptyPrompt && { allowEmptyPrompt: true }),
  };
  const { prompt, allowEmptyPrompt, mask } = readSettings(EDIT_PARAMETERS, written);
  checkInputs([...given, mask], io);
  refuseEmptyPrompt({ prompt, allowEmptyPrompt });
  const name = defaultName(file, settings.format);
  const path = outputPath(settings.output ?? join(dirname(file), name), name);
  const encoding = pictureEncoding(path, withQuality(settings, written));
  refuseUselessQuality(encoding.format, origins);
  await checkOutput(path, settings, terminal);
  const { modelsDir: modelsDirs, force } = settings;
  const search = { picture: file, modelsDirs, force, library: modelLibrary(), emit };
  const isFromFlag = (setting: string) => origins.get(setting)?.layer === "flag";
  const pictures = await inputPictures(given, io);
  const device = settings.device ?? (written["device"] === undefined ? "auto" : String(written["device"]));
  const edit = await withFiles(recipe, { written, given: pictures, settings, search, isFromFlag, device }, terminal);
  let made: { readonly picture: FinishedPicture; readonly encoded: Uint8Array } | undefined;
  const { device: used, seconds } = await withService({ ...settings, device }, terminal, async (service) => {
    const job = service.submit({
      resolved: edit.resolved,
      pictures: async () => edit.pictures,
      mask: async () => edit.mask,
      async onPicture(picture) {
        const encoded = await encodeDecoded(picture, encoding);
        const flattened = flattening(picture, encoding);
        if (flattened !== undefined) terminal.emit({ kind: "note", text: flattened });
        await writeOutput(path, encoded, { force, terminal });
        await keepFilePaths(picture.info, { ...edit, files: edit.resolved.files });
        made = { picture, encoded };
      },
    });
    const outcome = await job.outcome;
    if (outcome.state === "failed") throw outcome.error;
  });
  if (made === undefined) throw new Error("internal: an edit that is done gave no picture");
  const { drift } = made.picture;
  const info = encodedInfo(made.picture.info, encoding);
  const pixels = comparePixels(await readWithAlpha(bytes, file), await readWithAlpha(made.encoded, path));
  const differences = recipeDifferences(recipe, parseRecipe(recipeText(info))!);
  for (const line of report(differences)) emit({ kind: "note", text: line });
  emit({ kind: "note", text: `against ${file}: ${comparisonText(pixels)}` });
  if (path === STREAM) return;
  const record = { output: path, kind: "picture", original: file, pixels, differences, info };
  terminal.result({ ...record, drift: driftRecord(drift), device: used, seconds }, [path]);
}

// A quality that is not given is the recipe's, which has that of its own format alone.
function withQuality<Settings extends QualitySettings>(settings: Settings, written: WrittenSettings): Settings {
  const { jpegQuality, webpQuality } = readSettings(PICTURE_PARAMETERS, written);
  return {
    ...settings,
    jpegQuality: settings.jpegQuality ?? jpegQuality,
    webpQuality: settings.webpQuality ?? webpQuality,
  };
}

function defaultName(file: string, format: string | undefined): string {
  const stem = basename(file, extname(file));
  return `${stem}-rerun.${format ?? (extname(file).slice(1) || "png")}`;
}

// Applies --set to the recipe's settings, and removes settings that the changes make invalid.
function changed(recipe: WrittenSettings, pairs: readonly string[]): WrittenSettings {
  const changes: Record<string, string[]> = {};
  for (const pair of pairs) {
    const { setting, value } = changeOf(pair);
    changes[setting] = [...(changes[setting] ?? []), value];
  }
  const result: Record<string, unknown> = { ...recipe };
  const invalidated: Readonly<Record<string, readonly string[]>> = {
    size: ["megapixels"],
    megapixels: ["size"],
    match: ["size", "resolutionSteps"],
    device: ["dtype"],
  };
  for (const [setting, values] of Object.entries(changes)) {
    for (const other of invalidated[setting] ?? []) if (changes[other] === undefined) delete result[other];
    const kept = values.filter((value) => value !== "");
    const { isList, isSwitch, fromText } = CHANGEABLE[setting as keyof typeof CHANGEABLE].kind;
    if (isList) result[setting] = kept;
    else if (kept.length === 0) delete result[setting];
    else result[setting] = isSwitch ? fromText!(kept.at(-1)!) : kept.at(-1);
  }
  // The recipe's feather has no effect without pasting, its negative prompt none without guidance.
  if (changes["pasteBack"] && changes["feather"] === undefined) delete result["feather"];
  if (Number(result["cfg"]) === 1 && changes["negativePrompt"] === undefined) delete result["negativePrompt"];
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
    Object.entries(CHANGEABLE).flatMap(([setting, parameter]) =>
      flagsOf(setting, parameter).longs.map((long) => [long.slice(2), setting] as const),
    ),
  );
  const setting = names.get(key) ?? names.get(key.replaceAll("_", "-"));
  if (setting !== undefined) return { setting, value };
  const near = closest(key, [...names.keys()]);
  throw new QeditError("QEDIT_E_USAGE", `Cannot set "${key}": there is no such option that decides a picture`, {
    hint: near === undefined ? `It takes ${[...names.keys()].join(", ")}` : `Did you mean --set ${near}=${value}?`,
  });
}

interface Rerun {
  readonly written: WrittenSettings;
  readonly given: readonly Picture[];
  readonly settings: RerunSettings;
  readonly search: FileSearch;
  /** Whether a setting is from a flag. Model files from other sources are only candidates in the search. */
  readonly isFromFlag: (setting: string) => boolean;
  readonly device: string;
}

interface Found {
  readonly resolved: ResolvedEdit;
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
}

// Finds the files of the edit. A file that --set names replaces the recipe's and is not compared with it.
async function withFiles(recipe: Recipe, rerun: Rerun, { emit, io }: Terminal): Promise<Found> {
  const { written, given, search } = rerun;
  const isPasted = readValue("pasteBack", EDIT_PARAMETERS.pasteBack, written["pasteBack"] ?? false);
  const isWanted = (role: string) => role !== "mask" || (written["mask"] === undefined && isPasted);
  const roles = inputRoles(recipe).filter(isWanted);
  const files = await modelFiles(recipe, rerun);
  const found = await findInputs(recipe, roles, { ...search, given });
  const inputs = new Map<string, Picture>();
  for (const [index, role] of roles.entries()) {
    const input = found[index]!;
    inputs.set(role, typeof input === "string" ? (await inputPictures([input], io))[0]! : input);
  }
  const { mask: named, ...rest } = readSettings(EDIT_PARAMETERS, { ...written, lora: undefined });
  const settings: EditSettings = { ...rest, ...dtypeFor(recipe, rerun), mask: undefined, lora: loraTexts(files.loras) };
  const models = await openModels(files, settings, { library: search.library, emit });
  const mask = named === undefined ? inputs.get("mask") : (await inputPictures([named], io))[0];
  const pictures = roles.flatMap((role) => (role === "mask" ? [] : [inputs.get(role)!]));
  return { resolved: { settings: withNumbers(settings), models, files }, pictures, mask };
}

async function modelFiles(
  recipe: Recipe,
  { written, settings, search, isFromFlag }: Rerun,
): Promise<ResolvedEdit["files"]> {
  const options = { modelsDirs: search.modelsDirs };
  const paths = { vae: "", textEncoder: "", transformer: "" };
  for (const [role, setting] of Object.entries(WEIGHT_ROLES)) {
    const own = written[setting];
    const usual = settings[setting];
    const named = usual !== undefined && isFromFlag(setting) ? await findNamed(usual, options) : undefined;
    paths[setting] =
      own === undefined
        ? await findWeights(recipe, role as WeightRole, { ...search, named, usual })
        : await findNamed(String(own), options);
  }
  const lora = written["lora"] as readonly string[] | undefined;
  const loras =
    lora === undefined
      ? await recipeLoras(recipe, { settings, search, isFromFlag })
      : await Promise.all(lora.map((each) => namedLora(each, options)));
  return { ...paths, loras };
}

async function recipeLoras(
  recipe: Recipe,
  { settings, search, isFromFlag }: Pick<Rerun, "settings" | "search" | "isFromFlag">,
): Promise<NamedLora[]> {
  const options = { modelsDirs: search.modelsDirs };
  const wanted = isFromFlag("lora") ? settings.lora : [];
  const named = await Promise.all(wanted.map((each) => namedLora(each, options)));
  const { lora_strengths: strengths = [] } = (recipe.settings["sample"] ?? {}) as {
    lora_strengths?: readonly number[];
  };
  const found = await findLoras(recipe, { ...search, named: named.map(({ path }) => path) });
  return found.map((path, index) => ({ path, strength: strengths[index] ?? 1 }));
}

async function namedLora(written: string, { modelsDirs }: { modelsDirs: readonly string[] }): Promise<NamedLora> {
  const { path, strength } = parseLora(written);
  return { path: await findLora(path, { model: undefined, modelsDirs }), strength };
}

function loraTexts(loras: readonly NamedLora[]): string[] {
  return loras.map(({ path, strength }) => `${path}:${strength}`);
}

// Another kind of device may not support the recipe's compute type: use auto.
function dtypeFor(recipe: Recipe, { written, device }: Pick<Rerun, "written" | "device">): { dtype?: string } {
  const { device: made } = (recipe.settings["sample"] ?? {}) as { device?: string };
  const isSame = made !== undefined && device.startsWith(made);
  return isSame || written["dtype"] === undefined ? {} : { dtype: "auto" };
}

// Leaves out file names, which do not affect the picture, and only counts sizes: one change affects dozens of them.
function report(differences: readonly RecipeDifference[]): string[] {
  const sizes = differences.filter(({ group }) => group === "sizes").length;
  const others = differences.filter(({ group }) => group !== "names" && group !== "sizes");
  const lines = others.map(
    ({ group, what, a, b }) => `differs: ${group} ${what}: ${shown(a, MAX_SHOWN)} → ${shown(b, MAX_SHOWN)}`,
  );
  return sizes === 0 ? lines : [...lines, `differs: ${sizes} numbers about sizes (\`qedit diff\` lists them)`];
}
