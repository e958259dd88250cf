// What commands gave before, they give now. fixtures/golden-edits/README.md says where the files come from.
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import golden from "../../fixtures/golden-edits/commands.json" with { type: "json" };
import packageJson from "../../package.json" with { type: "json" };
import { readImage } from "../../src/image/io/read.js";
import { fixture } from "../support/golden.js";
import { CAT, ROCKET, shell, workFolder } from "./qedit.js";

const SETTINGS = "QEDIT_MODEL=tiny QEDIT_DEVICE=cpu QEDIT_THREADS=1 QEDIT_MEGAPIXELS=0.03 XDG_CACHE_HOME=cache";

/** Results that are kept as pictures. */
const PICTURES = ["one.png", "two.png", "again.png", "many-seed0.png", "rocket-edit.png"];
/** Between processors whose kernels round differently. */
const NEAR = 1;

const folder = workFolder();

beforeAll(async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  copyFileSync(ROCKET, folder.at("rocket.jpg"));
  mkdirSync(folder.at("cache"));
  const { code, stderr } = await shell(`set -e; export ${SETTINGS}\n${golden.commands.join("\n")}`, folder.path);
  expect(code, stderr).toBe(0);
});

test("every file is there", () => {
  expect(Object.keys(golden.sha256).filter((name) => !existsSync(folder.at(name)))).toEqual([]);
});

test.each(PICTURES)("%s shows what it did", async (name) => {
  const made = folder.at(name === "rocket-edit.png" ? join("each", name) : name);
  const [is, was] = [await readImage(made), await readImage(fixture(`golden-edits/${name}`))];
  expect([is.width, is.height]).toEqual([was.width, was.height]);
  const farthest = is.data.reduce((most, value, index) => Math.max(most, Math.abs(value - was.data[index]!)), 0);
  expect(farthest).toBeLessThanOrEqual(NEAR);
});

describe.runIf(isLike(golden.processor) && packageJson.version === golden.version)("byte for byte", () => {
  test.each(Object.entries(golden.sha256))("%s", (name, hash) => {
    expect(
      createHash("sha256")
        .update(readFileSync(folder.at(name)))
        .digest("hex"),
    ).toBe(hash);
  });
});

// Whether ONNX Runtime chooses the same kernels here.
function isLike(features: readonly string[]): boolean {
  if (!existsSync("/proc/cpuinfo")) return false;
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" "));
  const choosing = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile"];
  return choosing.every((name) => flags.has(name) === features.includes(name));
}
