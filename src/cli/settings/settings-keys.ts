// Checks the keys of settings files: options of any command, or a command's name for its section. A project's file may come from someone else,
// so it may set only parameters of an edit.

import { fileName, jsonName, type Parameter, type ParameterTable } from "../../edit/parameters/parameter.js";
import { closest } from "../../std/closest.js";
import { QeditError } from "../../std/errors.js";
import { allCommands } from "../commands.js";
import { outputOptions } from "./options.js";
import { mayBeSetBy } from "./settings.js";
import { type SettingsFile, userFile } from "./settings-files.js";

/** Key under which editors look for the JSON Schema of a file. */
const SCHEMA = "$schema";

/** Options by their name in files. */
type Keys = ReadonlyMap<string, Parameter<unknown>>;

/** Throws QEDIT_E_USAGE for the first unknown key, or key that a project's file may not set. Loads all commands only if a key is not in the table. */
export async function checkSettingsKeys(files: readonly SettingsFile[], table: ParameterTable): Promise<void> {
  const own = keysOf({ ...table, ...outputOptions });
  if (
    files.every(({ layer, values }) =>
      Object.keys(values).every((key) => key === SCHEMA || (own.has(key) && mayBeSetBy(layer, own.get(key)!))),
    )
  )
    return;
  const sections = await allKeys();
  const everywhere: Keys = new Map([...sections.values()].flatMap((keys) => [...keys]));
  for (const { path, layer, values } of files) {
    for (const [key, value] of Object.entries(values)) {
      if (key === SCHEMA) continue;
      const section = sections.get(key);
      if (section && typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const name of Object.keys(value)) refuse(name, section, { where: `"${key}" in ${path}`, layer });
      } else refuse(key, everywhere, { where: path, layer });
    }
  }
}

// The keys of each command by its full name: "run", "models pull".
async function allKeys(): Promise<ReadonlyMap<string, Keys>> {
  const called = [...(await allCommands())].filter(([, { perform }]) => perform !== undefined);
  return new Map(called.map(([name, { options }]) => [name, keysOf({ ...options, ...outputOptions })]));
}

function keysOf(table: ParameterTable): Keys {
  const settable = Object.entries(table).filter(([, { scope }]) => scope !== "call");
  // Keys may have dashes or underscores.
  return new Map(
    settable.flatMap(([key, parameter]) => [[fileName(key), parameter] as const, [jsonName(key), parameter] as const]),
  );
}

interface Place {
  readonly where: string;
  readonly layer: SettingsFile["layer"];
}

function refuse(key: string, known: Keys, { where, layer }: Place): void {
  const option = known.get(key);
  if (option === undefined) {
    const near = closest(key, [...known.keys()]);
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use the setting "${key}" in ${where}: no command has it, or it can only be a flag`,
      {
        hint: near === undefined ? "`qedit config --explain` lists the settings" : `Did you mean "${near}"?`,
      },
    );
  }
  if (mayBeSetBy(layer, option)) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use the setting "${key}" in ${where}: a project's settings file may only set parameters of an edit`,
    {
      hint: `Remove it there; set it with --${key}, ${environmentOf(key)} or in ${userFile()}`,
    },
  );
}

function environmentOf(key: string): string {
  return `QEDIT_${key.toUpperCase().replaceAll("-", "_")}`;
}
