// Pictures that tests of recipes share: made once for each file of tests, by real edits.
import { copyFileSync, mkdirSync } from "node:fs";
import { expect } from "vitest";
import { CAT, type Ended, models, QUICK, qedit } from "./qedit.js";

/** What the edits of these tests have in common. */
export const QUICK_EDIT = [
  "-p",
  "make it red",
  ...models(),
  ...QUICK,
  "--steps",
  "2",
  "--cfg",
  "1",
  "--megapixels",
  "0.01",
  "--seed",
  "7",
];

/** A memory that the processes of a folder share. */
export const memoryOf = (cwd: string) => ({ XDG_STATE_HOME: `${cwd}/state` });

/** Runs qedit in a folder, where it remembers files, and expects it to succeed. */
export async function succeed(
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const ended = await qedit(args, { cwd, env: { ...memoryOf(cwd), ...env } });
  expect(ended.code, ended.stderr).toBe(0);
  return ended;
}

/** Copies the cat into a folder below, and gives its path from there. */
export function catIn(cwd: string, folder = "photos"): string {
  mkdirSync(`${cwd}/${folder}`, { recursive: true });
  copyFileSync(CAT, `${cwd}/${folder}/cat.jpg`);
  return `${folder}/cat.jpg`;
}
