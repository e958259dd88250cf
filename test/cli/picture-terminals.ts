// Calls of run in pseudo-terminals that stand for terminals which show pictures, and what those would decode.
import { readFileSync } from "node:fs";
import { beforeAll, expect } from "vitest";
import { CAT, inTerminal, qedit, workFolder } from "./qedit.js";

/** Where the calls run; plain.png is the result without previews, last.png the last preview. */
export const folder = workFolder();
/** The same, for a call. */
export const here = { cwd: folder.path };
/** An edit by the tiny model. */
export const RUN = ["run", CAT, "-p", "make it upside down", "--model", "tiny", "--device", "cpu", "--threads", "1"];
/** A small one, whose previews are of 96x64 pixels. */
export const SMALL = [...RUN, "--size", "192x128", "--no-cache"];
/** What a terminal is asked. */
export const QUERY = "\u001b[16t\u001b[c";
/** The environment of kitty. */
export const KITTY = { TERM: "xterm-kitty", KITTY_WINDOW_ID: "1" };
/** The beginning of a picture in any protocol. */
export const ANY_PICTURE = /\u001b_G|\u001b\]1337|\u001bP/;

beforeAll(async () => {
  const { code, stderr } = await qedit([...SMALL, "-o", "plain.png", "--preview", "last.png"], here);
  expect(code, stderr).toBe(0);
});

/** What a terminal shows of a call; it answers the question for what it is. */
export async function shownBy(
  env: Readonly<Record<string, string>>,
  { args = [], answer }: { args?: readonly string[]; answer?: string } = {},
): Promise<string> {
  const name = `${Math.random().toString(36).slice(2)}.png`;
  const terminal = inTerminal([...SMALL, "-o", name, ...args], { ...here, env });
  if (answer !== undefined) {
    await expect.poll(terminal.shown, { timeout: 60_000, interval: 5 }).toContain(QUERY);
    terminal.type(answer);
  }
  expect(await terminal.ended, terminal.shown()).toBe(0);
  await expect.poll(terminal.shown).toContain(name);
  expect(readFileSync(folder.at(name)).equals(readFileSync(folder.at("plain.png")))).toBe(true);
  return terminal.shown();
}

/** Pictures of kitty's protocol: keys of the first chunk, and the file. */
export function kittyPictures(shown: string): { keys: Record<string, string>; bytes: Buffer }[] {
  const pictures: { keys: Record<string, string>; payload: string }[] = [];
  for (const [, written, payload] of shown.matchAll(/\u001b_G([^;\u001b]*);([^\u001b]*)\u001b\\/g)) {
    const keys = Object.fromEntries(written!.split(",").map((each) => each.split("="))) as Record<string, string>;
    expect(payload!.length).toBeLessThanOrEqual(4096);
    expect(keys["q"]).toBe("2");
    if (keys["a"] === "T") pictures.push({ keys, payload: "" });
    pictures.at(-1)!.payload += payload;
  }
  return pictures.map(({ keys, payload }) => ({ keys, bytes: Buffer.from(payload, "base64") }));
}
