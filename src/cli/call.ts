// One call of a subcommand: reads settings from all layers, opens a terminal, runs the command, and closes the terminal.
import { EXIT } from "../edit/error-table.js";
import type { Command } from "./command.js";
import { withPromptOfFile } from "./files/prompt-file.js";
import { asInputs, refuseSharedPaths, type UsedPath } from "./files/shared-paths.js";
import type { Io } from "./io.js";
import { isStderrLog } from "./render/event-log.js";
import { openTerminal, printJsonError, type Terminal } from "./render/terminal.js";
import { flagsOf, outputOptions, parsedValue } from "./settings/options.js";
import { completeSettings, givenSettings } from "./settings/settings.js";
import { readSettingsFiles } from "./settings/settings-files.js";
import { checkSettingsKeys } from "./settings/settings-keys.js";
import { refuseUselessCacheLimit } from "./settings/useless-cache-limit.js";

/** The command line as commander parsed it. */
export interface Parsed {
  /** The command's full name: `models pull`. */
  readonly name: string;
  readonly args: readonly string[];
  readonly parsed: Readonly<Record<string, unknown>>;
}

/** Calls a command and returns its exit code. An error is emitted as the last event, then thrown. */
export async function call(command: Command, { name, args, parsed }: Parsed, io: Io): Promise<number> {
  let terminal: Terminal | undefined;
  try {
    const files = await readSettingsFiles(io.cwd);
    // A command without settings, such as explain, must work even if the settings files are wrong.
    if (Object.keys(command.options).length > 0) await checkSettingsKeys(files, command.options);
    const sources = { command: name, parsed, env: io.env, files };
    const output = completeSettings(outputOptions, givenSettings(outputOptions, sources));
    if (output.events !== undefined && !isStderrLog(output.events))
      await refuseSharedPaths([{ flag: "--events", path: output.events }], namedFiles(command, { args, parsed }));
    terminal = await openTerminal(output, io);
    if (Object.keys(command.options).length > 0 && Object.keys(io.env).some((name) => name.startsWith("QEDIT_"))) {
      const { warnOfVariables } = await import("./settings/environment-names.js");
      await warnOfVariables(io.env, command.options, terminal.emit);
    }
    const given = await withPromptOfFile(givenSettings(command.options, sources));
    refuseUselessCacheLimit(given, terminal.emit);
    const settings = completeSettings(command.options, given);
    return (await command.perform!({ args, settings, given }, terminal)) ?? EXIT.ok;
  } catch (error) {
    if (terminal) terminal.fail(error);
    else if (parsed["json"] === true) printJsonError(error, io);
    throw error;
  } finally {
    await terminal?.close();
  }
}

// The files that the words of a call name: its arguments, and the values of flags that take one.
function namedFiles({ options }: Command, { args, parsed }: Pick<Parsed, "args" | "parsed">): UsedPath[] {
  const flags = Object.entries(options).filter(([, { placeholder = "" }]) => /^<(file|folder)/.test(placeholder));
  const named = flags.flatMap(([key, parameter]) => {
    const found = parsedValue(key, parameter, parsed);
    const use = `it is that of ${flagsOf(key, parameter).longs[0]}`;
    return Array.isArray(found) ? (found as string[]).map((path) => ({ path, use })) : [];
  });
  return [...named, ...asInputs(args)];
}
