// Which names settings files may use: the options of all commands, and the commands' names for sections of their own.
import { QeditError } from "../errors.js";
import type { OptionTable } from "../stages/option.js";
import { closest } from "./closest.js";
import type { Command } from "./command.js";
import { COMMANDS } from "./commands.js";
import type { ConfigFile } from "./config-files.js";
import { outputOptions } from "./options.js";
import { fileKey, isPerCall } from "./settings.js";

/** Throws QEDIT_E_USAGE for the first name in a settings file that means nothing. Loads all commands, unless the given table knows every name. */
export async function checkConfigKeys(files: readonly ConfigFile[], table: OptionTable): Promise<void> {
  const own = keysOf({ ...table, ...outputOptions });
  if (files.every(({ values }) => Object.keys(values).every((key) => own.has(key)))) return;
  const sections = await allKeys();
  const everywhere = new Set([...sections.values()].flatMap((keys) => [...keys]));
  for (const { path, values } of files) {
    for (const [key, value] of Object.entries(values)) {
      const section = sections.get(key);
      if (section && typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const name of Object.keys(value)) refuseUnknown(name, section, `"${key}" in ${path}`);
      } else refuseUnknown(key, everywhere, path);
    }
  }
}

// The keys of each command by its path: "run", "models pull".
async function allKeys(): Promise<Map<string, ReadonlySet<string>>> {
  const keys = new Map<string, ReadonlySet<string>>();
  const add = (path: string, command: Command): void => {
    if (command.perform) keys.set(path, keysOf({ ...command.options, ...outputOptions }));
    for (const [name, below] of Object.entries(command.commands ?? {})) add(`${path} ${name}`, below);
  };
  for (const { name, load } of COMMANDS) add(name, await load());
  return keys;
}

function keysOf(table: OptionTable): ReadonlySet<string> {
  return new Set(Object.values(table).filter((option) => !isPerCall(option)).map(fileKey));
}

function refuseUnknown(key: string, known: ReadonlySet<string>, where: string): void {
  if (known.has(key)) return;
  const near = closest(key, [...known]);
  throw new QeditError("QEDIT_E_USAGE", `Cannot use the setting "${key}" in ${where}: no command has it, or it can only be a flag`, {
    hint: near === undefined ? "`qedit config --explain` lists the settings" : `Did you mean "${near}"?`,
  });
}
