// qedit config: the settings as an edit would get them, and with --explain where each came from.
import { editOptions } from "../../edit/edit.js";
import { flag, type Option, type OptionTable } from "../../stages/option.js";
import { defineCommand } from "../command.js";
import { cacheOptions, computeOptions } from "../settings/options.js";
import { environmentKey, fileKey, type Given, givenSettings, isPerCall } from "../settings/settings.js";
import { type ConfigFile, PROJECT_FILE, readConfigFiles, userFile } from "../settings/settings-files.js";
import { checkConfigKeys } from "../settings/settings-keys.js";

const all: OptionTable = { ...editOptions, ...cacheOptions, ...computeOptions };
const shown: OptionTable = Object.fromEntries(Object.entries(all).filter(([, option]) => !isPerCall(option)));
const options = {
  ...shown,
  explain: flag({
    flags: "--explain",
    summary: "say where each value comes from, defaults included",
    group: "Output",
    isPerCall: true,
  }),
};

/** `qedit config --explain`. */
export const config = defineCommand({
  summary: "Show the settings, and where each comes from",
  examples: ["qedit config --explain", "qedit config --steps 8 --json", "QEDIT_STEPS=8 qedit config --explain"],
  options,
  async perform({ settings, given: flags }, terminal) {
    const files = await readConfigFiles();
    await checkConfigKeys(files, shown);
    // As `run` gets them: its own section of the files counts.
    const lower = givenSettings(shown, { command: "run", parsed: {}, env: process.env, files });
    const given = (name: string) => (flags.get(name)?.layer === "flag" ? flags.get(name) : lower.get(name));
    const rows = Object.entries(shown).map(([name, option]) => rowOf(option, given(name)));
    const told = settings["explain"] ? rows : rows.filter(({ from }) => from !== "default");
    const found = (layer: ConfigFile["layer"]) => files.find((file) => file.layer === layer)?.path;
    const record = {
      settings: Object.fromEntries(told.map(({ key, ...row }) => [key, row])),
      files: { project: found("project file") ?? null, user: found("user file") ?? null },
    };
    terminal.result(record, [
      ...tableOf(told),
      "",
      `project file: ${found("project file") ?? `none; ${PROJECT_FILE} in this folder or one above`}`,
      `user file: ${found("user file") ?? `none; it would be ${userFile()}`}`,
      "A variable named QEDIT_ and the setting, such as QEDIT_STEPS, is stronger than both; a flag is stronger than all.",
    ]);
  },
});

function tableOf(rows: readonly Row[]): readonly string[] {
  if (rows.length === 0) return ["No setting differs from its default; --explain shows them all"];
  const texts = rows.map(({ key, value, from }) => [key, present(value), from] as const);
  const widths = [0, 1].map((column) => Math.max(...texts.map((row) => row[column]!.length)));
  return texts.map(([key, value, from]) => `${key.padEnd(widths[0]!)}  ${value.padEnd(widths[1]!)}  ${from}`);
}

function present(value: unknown): string {
  if (value === null) return "-";
  return Array.isArray(value)
    ? value.join(", ") || "-"
    : typeof value === "object"
      ? Object.values(value).join("x")
      : String(value);
}

interface Row {
  readonly key: string;
  readonly value: unknown;
  readonly from: string;
  readonly environment: string;
}

function rowOf(option: Option<unknown>, given: Given | undefined): Row {
  const value = given === undefined ? (option.initialText ?? option.initial) : given.value;
  const from = given === undefined ? "default" : `${given.layer} ${given.name}`;
  return { key: fileKey(option), value: value ?? null, from, environment: environmentKey(option) };
}
