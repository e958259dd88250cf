// qedit config: the settings of run; with --explain, the source of each.

import {
  defaulted,
  environmentName,
  fileName,
  type Parameter,
  type ParameterTable,
} from "../../edit/parameters/parameter.js";
import { toggle } from "../../edit/parameters/parameter-kinds.js";
import { defineCommand } from "../command.js";
import { outputOptions } from "../settings/options.js";
import { type GivenSetting, givenSettings } from "../settings/settings.js";
import { PROJECT_FILE, readSettingsFiles, type SettingsFile, userFile } from "../settings/settings-files.js";
import { checkSettingsKeys } from "../settings/settings-keys.js";
import { run } from "./run.js";

const flags = settable(run.options);
// Those of every command are the command's own flags here: only what other places say of them is shown.
const shown = { ...flags, ...settable(outputOptions) };
const options: ParameterTable = {
  ...flags,
  explain: defaulted(toggle, false, {
    summary: "say where each value comes from, defaults included",
    group: "Output",
    scope: "call",
  }),
  schema: defaulted(toggle, false, {
    summary: "print the JSON schema of a batch's lines and of settings files, for editors",
    group: "Output",
    scope: "call",
  }),
};

/** `qedit config --explain`. */
export const config = defineCommand({
  examples: [
    "qedit config --explain",
    "qedit config --schema > qedit.schema.json",
    "qedit config --steps 8 --json",
    "QEDIT_STEPS=8 qedit config --explain",
  ],
  options,
  async perform({ settings, given: ofCall }, terminal) {
    if (settings["schema"]) {
      const { jobSchema } = await import("../jobs/job-schema.js");
      const schema = jobSchema();
      return terminal.result(schema, JSON.stringify(schema, null, 2).split("\n"));
    }
    const files = await readSettingsFiles(terminal.io.cwd);
    await checkSettingsKeys(files, shown);
    // With the section `run` of the settings files, as `run` reads them.
    const lower = givenSettings(shown, { command: "run", parsed: {}, env: terminal.io.env, files });
    const given = (name: string) => (ofCall.get(name)?.layer === "flag" ? ofCall.get(name) : lower.get(name));
    const rows = Object.entries(shown).map(([name, parameter]) => rowOf(name, parameter, given(name)));
    const listed = settings["explain"] ? rows : rows.filter(({ from }) => from !== "default");
    const found = (layer: SettingsFile["layer"]) => files.find((file) => file.layer === layer)?.path;
    const record = {
      settings: Object.fromEntries(listed.map(({ key, ...row }) => [key, row])),
      files: { project: found("project file") ?? null, user: found("user file") ?? null },
    };
    terminal.result(record, [
      ...tableOf(listed),
      "",
      `project file: ${found("project file") ?? `none; ${PROJECT_FILE} in this folder or one above`}`,
      `user file: ${found("user file") ?? `none; it would be ${userFile()}`}`,
      "A variable named QEDIT_ and the setting, such as QEDIT_STEPS, is stronger than both; a flag is stronger than all.",
    ]);
  },
});

// What settings files and the environment may set.
function settable(table: ParameterTable): ParameterTable {
  return Object.fromEntries(Object.entries(table).filter(([, { scope }]) => scope !== "call"));
}

function tableOf(rows: readonly Row[]): readonly string[] {
  if (rows.length === 0) return ["No setting differs from its default; --explain shows them all"];
  const texts = rows.map(({ key, value, from }) => [key, present(value), from] as const);
  const widths = [0, 1].map((column) => Math.max(...texts.map((row) => row[column]!.length)));
  return texts.map(([key, value, from]) => `${key.padEnd(widths[0]!)}  ${value.padEnd(widths[1]!)}  ${from}`);
}

function present(value: unknown): string {
  if (value === null) return "-";
  if (Array.isArray(value)) return value.join(", ") || "-";
  if (typeof value !== "object") return String(value);
  const parts = Object.entries(value);
  // Servers by stage, else a size.
  const isServers = parts.every(([, part]) => Array.isArray(part));
  return isServers ? parts.map(([name, part]) => `${name}=${String(part)}`).join(",") : Object.values(value).join("x");
}

interface Row {
  readonly key: string;
  readonly value: unknown;
  readonly from: string;
  readonly environment: string;
}

function rowOf(name: string, parameter: Parameter<unknown>, given: GivenSetting | undefined): Row {
  const value = given === undefined ? (parameter.initialText ?? parameter.initial) : given.value;
  const from = given === undefined ? "default" : `${given.layer} ${given.name}`;
  return { key: fileName(name), value: value ?? null, from, environment: environmentName(name) };
}
