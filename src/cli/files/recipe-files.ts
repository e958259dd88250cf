// Finds the files of a recipe: pictures by hash, weights by identity. Uses files with other content only with `force`.
import { dirname, join } from "node:path";
import type { Recipe } from "../../artifacts/recipe.js";
import { findFile, findModelFiles } from "../../catalog/local/find.js";
import { identityOf } from "../../checkpoint/open.js";
import { fileName } from "../../edit/parameters/parameter.js";
import type { ModelLibrary } from "../../edit/resolve/model-library.js";
import { MODEL_ROLES } from "../../stages/networks/model-handle.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { fileHash } from "../../std/file-hash.js";
import { lastPathOf } from "./known-files.js";

/** How files are searched. */
export interface FileSearch {
  /** The picture that is made again; used in messages, and its folder is searched. */
  readonly picture: string;
  /** Model folders to search first. */
  readonly modelsDirs: readonly string[];
  /** Whether to use a file of the right name or role although its content differs. */
  readonly force: boolean;
  readonly library: ModelLibrary;
  readonly emit: Emit;
}

/** Roles of model files in recipes, with their parameters. */
export const WEIGHT_ROLES = {
  vae: "vae",
  text_encoder: "textEncoder",
  transformer: "transformer",
} as const;

/** Name of a role of model files. */
export type WeightRole = keyof typeof WEIGHT_ROLES;

/** Characters of a hash in messages. */
const SHOWN_HASH = 12;

/**
 * The model file of a role: `named`, from a flag, else any file with the recipe's identity, also that of the user's settings (`usual`).
 * Throws QEDIT_E_CHECKPOINT if `named` has another identity, QEDIT_E_MODEL_MISSING if no file has the right one.
 */
export function findWeights(
  recipe: Recipe,
  role: WeightRole,
  { named, usual, ...search }: FileSearch & { readonly named: string | undefined; readonly usual?: string | undefined },
): Promise<string> {
  const setting = WEIGHT_ROLES[role];
  const { library, emit } = search;
  const identityOf = async (path: string) => (await library.model(path, setting, emit)).identity;
  const fromSettings = async () =>
    usual === undefined ? undefined : findFile(usual, { modelsDirs: search.modelsDirs });
  const published = async () =>
    (await findModelFiles({}, { model: undefined, roles: [setting], modelsDirs: search.modelsDirs }))[setting];
  const wanted = {
    what: `the ${MODEL_ROLES[setting].name}`,
    option: `--${fileName(setting)}`,
    identity: recipe.weights[role] ?? "",
    name: recipe.names[role],
  };
  return findIdentity(wanted, { named, search, identityOf, more: [fromSettings, published] });
}

/** The files of a recipe's LoRAs in order; the user may name them in any order. Throws what findWeights throws. */
export async function findLoras(
  recipe: Recipe,
  { named, ...search }: FileSearch & { readonly named: readonly string[] },
): Promise<string[]> {
  const given = await Promise.all(named.map(async (path) => ({ path, identity: await identityOf(path) })));
  const count = Object.keys(recipe.weights).filter((role) => role.startsWith("lora.")).length;
  const files: string[] = [];
  for (let index = 0; index < count; index++) {
    const identity = recipe.weights[`lora.${index}`] ?? "";
    const own =
      given.find((each) => each.identity === identity)?.path ??
      (given.length === count ? given[index]?.path : undefined);
    files.push(
      await findIdentity(
        { what: `LoRA ${index + 1}`, option: "--lora", identity, name: recipe.names[`lora.${index}`] },
        { named: own, search, identityOf, more: [] },
      ),
    );
  }
  const unused = named.find((path) => !files.includes(path));
  if (unused === undefined) return files;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${unused}: ${search.picture} was made with ${count === 0 ? "no LoRA" : `${count} other LoRAs`}`,
    { hint: `Change the LoRAs with --set lora=${unused}` },
  );
}

interface Wanted {
  readonly what: string;
  readonly option: string;
  readonly identity: string;
  readonly name: string | undefined;
}

interface Places {
  readonly named: string | undefined;
  readonly search: FileSearch;
  readonly identityOf: (path: string) => Promise<string>;
  readonly more: readonly (() => Promise<string | undefined>)[];
}

async function findIdentity(wanted: Wanted, { named, search, identityOf, more }: Places): Promise<string> {
  const { what, option, identity, name } = wanted;
  const { force, emit, picture, modelsDirs } = search;
  const described = `${name ?? what} (identity ${identity.slice(0, SHOWN_HASH)}…)`;
  if (named !== undefined) {
    if ((await identityOf(named)) === identity) return named;
    const message = `${named} is not ${what} that made ${picture}: that was ${described}`;
    if (!force)
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use ${named}: it is not ${what} that made ${picture}, which was ${described}`,
        { hint: `Use it all the same with --force, or leave out ${option}` },
      );
    emit({ kind: "warning", text: message });
    return named;
  }
  const places = [
    () => lastPathOf(identity),
    async () => (name === undefined ? undefined : findFile(name, { modelsDirs })),
    ...more,
  ];
  const others: string[] = [];
  for (const place of places) {
    // Ignore errors of one place: the next one may have the file.
    const path = await place().catch(() => undefined);
    const found = path === undefined ? undefined : await identityOf(path).catch(() => undefined);
    if (path === undefined || found === undefined) continue;
    if (found === identity) return path;
    others.push(path);
  }
  const [other] = others;
  if (other !== undefined && force) {
    emit({ kind: "warning", text: `${other} is not ${what} that made ${picture}: that was ${described}` });
    return other;
  }
  throw new QeditError(
    "QEDIT_E_MODEL_MISSING",
    `Cannot find ${what} that made ${picture}: ${described}${other === undefined ? "" : `; ${other} holds other weights`}`,
    {
      hint: `Name it: ${option} FILE${other === undefined ? "" : `, or use ${other} with --force`}`,
    },
  );
}

/** An input picture given by the user. */
export interface GivenInput {
  readonly name: string;
  readonly hash: string;
}

/**
 * Finds the input of each role: a given input with the recipe's hash, or the path of a file with that hash, beside the picture, in the working
 * directory, or at its last known path. Throws QEDIT_E_IMAGE if one cannot be found; without `force`, also for a given input that does not match.
 */
export async function findInputs<Given extends GivenInput>(
  recipe: Recipe,
  roles: readonly string[],
  { given, ...search }: FileSearch & { readonly given: readonly Given[] },
): Promise<(Given | string)[]> {
  const hashes = roles.map((role) => recipe.inputs[role]!);
  const stray = given.find(({ hash }) => !hashes.includes(hash));
  if (stray !== undefined && !search.force) {
    throw new QeditError(
      "QEDIT_E_IMAGE",
      `Cannot use ${stray.name}: ${search.picture} was made from other pictures, ${roles.map((role) => described(recipe, role)).join(", ")}`,
      {
        hint: "Use it all the same with --force, which takes pictures in order",
      },
    );
  }
  if (stray !== undefined)
    search.emit({
      kind: "warning",
      text: `${stray.name} is none of the pictures that ${search.picture} was made from: pictures are taken in order`,
    });
  return Promise.all(
    roles.map(
      async (role, index) =>
        given.find(({ hash }) => hash === recipe.inputs[role]) ??
        (stray && given[index]) ??
        findInput(recipe, role, search),
    ),
  );
}

async function findInput(recipe: Recipe, role: string, { picture, force, emit }: FileSearch): Promise<string> {
  const [name, wanted] = [recipe.names[role], recipe.inputs[role]!];
  const named = name === undefined ? [] : [join(dirname(picture), name), name];
  const last = await lastPathOf(wanted);
  const others: string[] = [];
  for (const path of [...named, ...(last === undefined ? [] : [last])]) {
    const hash = await fileHash(path).catch(() => undefined);
    if (hash === wanted) return path;
    if (hash !== undefined) others.push(path);
  }
  const [other] = others;
  if (other !== undefined && force) {
    emit({
      kind: "warning",
      text: `${other} is not the file that ${picture} was made from: that was ${described(recipe, role)}`,
    });
    return other;
  }
  const what = role === "mask" ? "the mask" : `picture ${role.slice("image.".length)}`;
  throw new QeditError(
    "QEDIT_E_IMAGE",
    `Cannot find ${what} of ${picture}: ${described(recipe, role)}${other === undefined ? "" : `; ${other} is another file now`}`,
    {
      hint: `Name it: qedit rerun ${picture} FILE${other === undefined ? "" : ", or use what is there with --force"}`,
    },
  );
}

function described({ names, inputs }: Recipe, role: string): string {
  return `${names[role] ?? "a picture"} (sha256 ${inputs[role]!.slice(0, SHOWN_HASH)}…)`;
}
