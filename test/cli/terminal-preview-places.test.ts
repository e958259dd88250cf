// Where previews on the terminal are not shown, and what is left of the question which pictures a terminal shows.
import { describe, expect, test } from "vitest";
import { ANY_PICTURE, folder, here, KITTY, kittyPictures, QUERY, SMALL, shownBy } from "./picture-terminals.js";
import { shellInTerminal } from "./qedit.js";

describe("no picture and no question", () => {
  test.each([
    ["in screen", { ...KITTY, TERM: "screen" }, []],
    ["with --preview-terminal off", KITTY, ["--preview-terminal", "off"]],
    ["with QEDIT_PREVIEW_TERMINAL=off", { ...KITTY, QEDIT_PREVIEW_TERMINAL: "off" }, []],
    ["with -q", KITTY, ["-q"]],
    ["with --json", KITTY, ["--json"]],
    ["with --events stderr", KITTY, ["--events", "stderr"]],
    ["with NO_COLOR", { ...KITTY, NO_COLOR: "1" }, []],
    ["in CI", { ...KITTY, CI: "true" }, []],
    ["on a dumb terminal", { ...KITTY, TERM: "dumb" }, []],
  ])("%s", async (_, env, args) => {
    const shown = await shownBy(env, { args });
    expect(shown).not.toMatch(ANY_PICTURE);
    expect(shown).not.toContain(QUERY);
  });
});

test("one that was started from kitty is asked, and a protocol that is named counts", async () => {
  const env = { KITTY_WINDOW_ID: "1", VTE_VERSION: "7800" };
  expect(await shownBy(env, { answer: "\u001b[?65;1;9c" })).not.toMatch(ANY_PICTURE);
  const named = await shownBy({ NO_COLOR: "1" }, { args: ["--preview-terminal", "kitty"] });
  expect(kittyPictures(named).length).toBeGreaterThanOrEqual(2);
});

test("after the question the keys are the shell's again", async () => {
  const call = [...SMALL, "-o", "asked.png"].map((word) => `'${word}'`).join(" ");
  const terminal = shellInTerminal(`qedit ${call}; stty -a; read line; echo "got:$line:"`, here);
  await expect.poll(terminal.shown, { timeout: 60_000, interval: 5 }).toContain(QUERY);
  terminal.type("\u001b[?1;2c");
  await expect.poll(terminal.shown, { timeout: 60_000, interval: 20 }).toContain("encode-prompt");
  terminal.type("hello\r");
  expect(await terminal.ended, terminal.shown()).toBe(0);
  await expect.poll(terminal.shown).toContain("got:hello:");
  for (const mode of ["icanon", "echo", "isig"]) expect(terminal.shown()).toMatch(new RegExp(`[ \n]${mode}\\b`));
});

test("in the background it neither asks nor stops", async () => {
  const call = [...SMALL, "-o", "behind.png"].map((word) => `'${word}'`).join(" ");
  const terminal = shellInTerminal(`set -m; qedit ${call} & wait $!; echo "ended:$?:"`, here);
  expect(await terminal.ended, terminal.shown()).toBe(0);
  await expect.poll(terminal.shown).toContain("ended:0:");
  expect(terminal.shown()).not.toContain(QUERY);
});

test("Ctrl-C while the terminal is asked ends the call, and the terminal is as before", async () => {
  const call = [...SMALL, "-o", "asking.png"].map((word) => `'${word}'`).join(" ");
  const terminal = shellInTerminal(`trap : INT; qedit ${call}; echo "ended:$?:"; stty -a`, here);
  await expect.poll(terminal.shown, { timeout: 60_000, interval: 1 }).toContain(QUERY);
  terminal.type("\u0003");
  expect(await terminal.ended, terminal.shown()).toBe(0);
  await expect.poll(terminal.shown).toMatch(/ended:130:[\s\S]*[ \n]icanon\b/);
  expect(folder.names()).not.toContain("asking.png");
});

test("a late answer to a call that has failed by then is not left for the shell", async () => {
  const call = [...SMALL, "--model", "qwen-image-edit-2509", "-o", "missing.png"].map((word) => `'${word}'`).join(" ");
  const terminal = shellInTerminal(`qedit ${call}; echo "ended:$?:"; read line; echo "got:$line:"`, here);
  await expect.poll(terminal.shown, { timeout: 60_000, interval: 1 }).toContain(QUERY);
  await new Promise((resolve) => setTimeout(resolve, 400));
  terminal.type("\u001b[?62;4c");
  await expect.poll(terminal.shown, { timeout: 60_000 }).toContain("ended:3:");
  terminal.type("mine\r");
  expect(await terminal.ended, terminal.shown()).toBe(0);
  await expect.poll(terminal.shown).toContain("got:mine:");
});
