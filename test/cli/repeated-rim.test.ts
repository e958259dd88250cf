// `decode --keep-size` does not know picture 1: around a crop it repeats the edge, and says so.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CAT, QUICK, qedit, workFolder } from "./qedit.js";
import { succeed } from "./recipes.js";

const folder = workFolder();
const here = { cwd: folder.path, env: { QEDIT_HOME: folder.at("home") } };
const EDIT = ["run", CAT, "-p", "make it sepia", "--model", "tiny", ...QUICK, "--steps", "1", "--keep-size"];

async function bothWays(size: readonly string[], name: string): Promise<string> {
  await succeed([...EDIT, ...size, "--keep", name, "-o", `${name}-run.png`], here.cwd, here.env);
  const decode = ["decode", `${name}/samples.safetensors`, "--keep-size", "--model", "tiny", ...QUICK];
  return (await succeed([...decode, "-o", `${name}-decoded.png`], here.cwd, here.env)).stderr;
}

test("of a crop is warned of, and another recipe, which cannot be made again in one go", async () => {
  const stderr = await bothWays(["--size", "128x96"], "cropped");
  expect(stderr).toContain("warning: picture 1 was cropped, and is not known here: the edge");
  const compared = await qedit(["diff", "cropped-run.png", "cropped-decoded.png"], here);
  expect(compared.stdout).toMatch(/decode\.rim\s.*repeated/);
  expect(compared.stdout).toMatch(/pixels: [\d.]+ % differ/);
  const again = await qedit(["rerun", "cropped-decoded.png", "-o", "again.png"], here);
  expect([again.code === 0, again.stderr]).toEqual([false, expect.stringContaining("decoded without picture 1")]);
});

test("of a whole picture has the bytes of run", async () => {
  const stderr = await bothWays(["--megapixels", "0.02"], "whole");
  expect(stderr).not.toContain("warning: picture 1 was cropped");
  const bytes = (name: string) => readFileSync(folder.at(name));
  expect(bytes("whole-decoded.png").equals(bytes("whole-run.png"))).toBe(true);
});
