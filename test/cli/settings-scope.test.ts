// What each layer may set: a call its own files and what it replaces, a user what holds for the machine, a project what edits are made with.
import { describe, expect, test } from "vitest";
import { run } from "../../src/cli/commands/run.js";
import { givenSettings, type Sources } from "../../src/cli/settings/settings.js";
import type { SettingsFile } from "../../src/cli/settings/settings-files.js";
import { checkSettingsKeys } from "../../src/cli/settings/settings-keys.js";

const file = (layer: SettingsFile["layer"], values: Readonly<Record<string, unknown>>): SettingsFile => ({
  path: `/${layer}.json`,
  layer,
  values,
});
const given = (files: readonly SettingsFile[], env: Sources["env"] = {}) =>
  givenSettings(run.options, { command: "run", parsed: {}, env, files });

describe.each([
  ["output", "elsewhere.png"],
  ["force", true],
  ["prompt", "make it mine"],
])("%s", (key, value) => {
  test.each(["project file", "user file"] as const)("is no setting of a %s: it belongs to a call", async (layer) => {
    const files = [file(layer, { [key]: value })];
    expect(given(files).get(key)).toBeUndefined();
    await expect(checkSettingsKeys(files, run.options)).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
  });

  test("is no variable of the environment", () => {
    expect(given([], { [`QEDIT_${key.toUpperCase()}`]: "yes" }).get(key)).toBeUndefined();
  });
});

test("what holds for the machine is the user's to set, and not a project's", async () => {
  const user = file("user file", { "no-cache": true });
  const project = file("project file", { "no-cache": true });
  await checkSettingsKeys([user], run.options);
  expect(given([user]).get("noCache")).toMatchObject({ value: true, layer: "user file" });
  expect(given([project]).get("noCache")).toBeUndefined();
  await expect(checkSettingsKeys([project], run.options)).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
});

test("a project's file is asked before the user's, and a command's section before what is for all", () => {
  const project = file("project file", { steps: 2, run: { steps: 5 } });
  expect(given([project, file("user file", { steps: 7 })]).get("steps")).toMatchObject({ value: 5 });
});
