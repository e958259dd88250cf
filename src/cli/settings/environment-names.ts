// Warns of QEDIT_ variables that nothing reads: misspelled settings, and those that can only be flags.
import { environmentName, type Parameter, type ParameterTable } from "../../edit/parameters/parameter.js";
import { closest } from "../../std/closest.js";
import type { Emit } from "../../std/events.js";
import { allCommands } from "../commands.js";
import { flagsOf, outputOptions } from "./options.js";

/** Variables that are no settings: folders, keys, the catalogue; QEDIT_BUILD_TOOLS and QEDIT_BENCH_ are of the tests. */
const OTHERS =
  /^QEDIT_(HOME|MODELS|CATALOG|API_KEY|REMOTE_KEY|BUILD_TOOLS|BENCH_.*|(.*_)?SERVICE_(HOST|PORT.*)|(.*_)?PORT(_.*)?)$/;

/** Emits a warning for each unknown variable. Loads all commands only if one is not of the table. Kubernetes' variables of services are left out of it. */
export async function warnOfVariables(
  env: Readonly<Record<string, string | undefined>>,
  table: ParameterTable,
  emit: Emit,
): Promise<void> {
  const own = new Map([...namesOf({ ...table, ...outputOptions })].filter(isOfSetting));
  const isSet = (name: string) => name.startsWith("QEDIT_") && env[name] !== "" && !OTHERS.test(name);
  const unknown = Object.keys(env).filter((name) => isSet(name) && !own.has(name));
  if (unknown.length === 0) return;
  const all = [...(await allCommands()).values()].map(({ options }) => options);
  const known = namesOf(Object.assign({}, ...all, outputOptions, table) as ParameterTable);
  // A name may be a setting of one command and a flag of another.
  const settable = new Set(all.flatMap((each) => [...namesOf(each)].filter(isOfSetting).map(([name]) => name)));
  for (const name of unknown.filter((each) => !settable.has(each)))
    emit({ kind: "warning", text: `${name} has no effect: ${hintFor(name, known)}` });
}

interface Named {
  readonly key: string;
  readonly parameter: Parameter<unknown>;
}

// Parameters by the variable of their name, and of their aliases.
function namesOf(table: ParameterTable): ReadonlyMap<string, Named> {
  return new Map(
    Object.entries<Parameter<unknown>>(table).flatMap(([key, parameter]) =>
      [key, ...(parameter.aliases ?? [])].map((name) => [
        environmentName(name).replaceAll("-", "_"),
        { key, parameter },
      ]),
    ),
  );
}

function isSettable(parameter: Parameter<unknown> | undefined): boolean {
  return parameter !== undefined && parameter.scope !== "call";
}

// Whether it is the variable of a setting, not of another name of one, which is only a flag.
function isOfSetting([name, { key, parameter }]: readonly [string, Named]): boolean {
  return isSettable(parameter) && environmentName(key) === name;
}

function hintFor(name: string, known: ReadonlyMap<string, Named>): string {
  const found = known.get(name);
  if (found && !isSettable(found.parameter))
    return `it can only be a flag: ${flagsOf(found.key, found.parameter).longs[0]}`;
  const settings = [...known].filter(isOfSetting).map(([each]) => each);
  const near = found ? environmentName(found.key) : closest(name, settings);
  return near === undefined ? "`qedit config --explain` lists the settings" : `did you mean ${near}?`;
}
