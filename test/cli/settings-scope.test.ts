// What each layer may set: a call its own files and what it replaces, a user what holds for the machine, a project what edits are made with.
import { describe, expect, test } from "vitest";
import { run } from "../../src/cli/commands/run.js";
import { givenSettings, type Sources } from "../../src/cli/settings/settings.js";
import type { SettingsFile } from "../../src/cli/settings/settings-files.js";
import { checkSettingsKeys } from "../../src/cli/settings/settings-keys.js";
import { refuseUselessCacheLimit } from "../../src/cli/settings/useless-cache-limit.js";
import { expectRefusal, qedit, workFolder } from "./qedit.js";

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

describe("a limit of the cache beside --no-cache has no effect:", () => {
  const folder = workFolder();
  const call = ["run", "nowhere.png", "-p", "x", "--model", "tiny", "--no-cache"];

  test("a flag is refused, and warned of with --force", async () => {
    const args = [...call, "--cache-limit", "1G"];
    const message = /Cannot use --cache-limit with --no-cache: it has no effect/;
    expectRefusal(await qedit(args, { cwd: folder.path }), { code: 2, message, hint: /Leave one of them out/ });
    const forced = await qedit([...args, "--force"], { cwd: folder.path });
    expect(forced.stderr).toMatch(/^warning: Cannot use --cache-limit[^]*error: Cannot read nowhere\.png/);
  });

  test("that of the user's file or the environment is nothing to speak of", async () => {
    const ofFile = given([file("user file", { "cache-limit": "1G", "no-cache": true })]);
    expect(ofFile.get("cacheLimit")).toMatchObject({ layer: "user file", value: 1024 ** 3 });
    expect(ofFile.get("noCache")).toMatchObject({ value: true });
    refuseUselessCacheLimit(ofFile, () => expect.fail("said something"));
    const ended = await qedit(call, { cwd: folder.path, env: { QEDIT_CACHE_LIMIT: "1G" } });
    expect(ended.stderr).toMatch(/^error: Cannot read nowhere\.png/m);
    expect(ended.stderr).not.toMatch(/cache/);
  });
});

test("a project's file is asked before the user's, and a command's section before what is for all", () => {
  const project = file("project file", { steps: 2, run: { steps: 5 } });
  expect(given([project, file("user file", { steps: 7 })]).get("steps")).toMatchObject({ value: 5 });
});
