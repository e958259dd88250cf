// What reaches a terminal: no control characters but our own, wherever they come from; and errors as JSON.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { printable, printableJson, printableLine, shown } from "../../src/cli/render/shown.js";
import { CAT, FILES, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
/** Clears the screen, sets a title, reverses text, hides text, and goes back in the line. */
const HOSTILE = "a\u001b[2Jb\u001b]0;title\u0007c\u202ed\u009b8me\rf";
/** And colours it. */
const COLOURED = `\u001b[32m${HOSTILE}`;
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;

test("control characters are escaped, but line breaks, tabs, and in colour the styles of our own", () => {
  const text = `\u001b[31merror:\u001b[39m\t${HOSTILE}\n`;
  const escaped = "a\\u001b[2Jb\\u001b]0;title\\u0007c\\u202ed\\u009b8me\\u000df\n";
  expect(printable(text, { color: true })).toBe(`\u001b[31merror:\u001b[39m\t${escaped}`);
  expect(printable(text)).toBe(`\\u001b[31merror:\\u001b[39m\t${escaped}`);
  expect(shown("two\nlines")).toBe("two⏎lines");
  expect(printableLine(`${text}two\nlines`, { color: true })).toBe(
    `${printable(text, { color: true }).trimEnd()}\\u000atwo\\u000alines`,
  );
});

test("JSON with escaped controls is still the same JSON", () => {
  const record = { name: `${HOSTILE}\u007f` };
  const text = printableJson(JSON.stringify(record, null, 2));
  expect(text).not.toMatch(CONTROLS);
  expect(JSON.parse(text)).toEqual(record);
});

test.each([
  ["a picture that is not there", ["run", `${COLOURED}.png`, "-p", "x", ...models(), ...QUICK]],
  ["a model", ["run", CAT, "-p", "x", "--vae", COLOURED, ...QUICK]],
  ["a key of a settings file", ["run", CAT, "-p", "x"]],
  ["an unknown command", [COLOURED]],
  ["an option", ["run", `--${COLOURED}`]],
])("%s with control characters in its name is shown escaped", async (what, args) => {
  if (what.includes("settings")) writeFileSync(folder.at("qedit.json"), JSON.stringify({ [COLOURED]: 1 }));
  const { code, stdout, stderr } = await qedit(args, here);
  expect(code).toBeGreaterThan(0);
  expect(stderr).toContain("\\u001b[2J");
  expect(stdout + stderr).not.toMatch(CONTROLS);
});

describe.skipIf(process.platform === "win32")("a line break in the name of a file", () => {
  const PICTURE = "c\u001b[31ma\nt.jpg";
  const MODEL = "v\nok   forged.safetensors";

  beforeAll(() => {
    mkdirSync(folder.at("broken"));
    // In place of that of the folder above, which a test before made.
    writeFileSync(folder.at("broken/qedit.json"), "{}");
    copyFileSync(CAT, folder.at(`broken/${PICTURE}`));
    copyFileSync(FILES["--vae"], folder.at(`broken/${MODEL}`));
  });

  test.each([
    ["plan", [PICTURE, "-p", "x", ...models(), ...QUICK], /c\\u001b\[31ma\\u000at\.jpg/],
    ["diff", [PICTURE, PICTURE], /^c\\u001b\[31ma\\u000at\.jpg has no recipe$/m],
    ["inspect", [PICTURE], /^c\\u001b\[31ma\\u000at\.jpg\n {2}jpeg picture/],
    ["models scan", ["."], /v\\u000aok {3}forged\.safetensors\n {4}Qwen-Image VAE/],
    ["models verify", [MODEL], /^ok {3}v\\u000aok {3}forged\.safetensors: /],
  ])("is escaped by %s", async (command, args, wanted) => {
    const { code, stdout, stderr } = await qedit([...command.split(" "), ...args], { cwd: folder.at("broken") });
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(wanted);
    expect(stdout).not.toMatch(CONTROLS);
    expect(stdout + stderr).not.toMatch(/^(t\.jpg|ok {3}forged)/m);
  });
});

test.each([
  ["an error of a command", ["run", "nope.png", "-p", "x", ...models(), "--json"], "QEDIT_E_IMAGE"],
  ["a wrong option", ["run", "--nope", "--json"], "QEDIT_E_USAGE"],
])("%s is one JSON object on stdout with --json, and a line on stderr", async (_, args, code) => {
  writeFileSync(folder.at("qedit.json"), "{}");
  const ended = await qedit(args, here);
  expect(ended.code).toBe(2);
  expect(JSON.parse(ended.stdout)).toEqual({
    error: { code, message: expect.any(String), hint: expect.any(String), exit: 2 },
  });
  expect(ended.stderr).toMatch(/^error: .+\n {2}hint: .+\n$/m);
});
