// What a device has no kernel for is refused before a session opens: by plan, and before an edit's first stage.
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { CAT, expectRefusal, qedit, workFolder } from "../cli/qedit.js";
import { writeQuantised } from "../support/gguf-quantised.js";
import { fixture } from "../support/golden.js";

const folder = workFolder();
const PLAN = ["plan", CAT, "-p", "make it sepia", "--model", "tiny", "--device", "cuda", "--vram", "12G"];

beforeAll(async () => {
  const transformer = await readSafetensors(fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors"));
  await writeQuantised(folder.at("packed.gguf"), transformer, "Q8_0");
});
afterEach(() => vi.unstubAllEnvs());

/** Puts a GPU of this compute capability on PATH. */
async function gpu(capability: string): Promise<void> {
  await mkdir(folder.at("bin"), { recursive: true });
  const line = `0, NVIDIA T4, 580.1, 15360, 15000, ${capability}`;
  await writeFile(folder.at("bin/nvidia-smi"), `#!/bin/sh\necho "${line}"\n`);
  await chmod(folder.at("bin/nvidia-smi"), 0o755);
  vi.stubEnv("PATH", folder.at("bin"));
}

const planned = (...more: string[]) =>
  qedit([...PLAN, ...more], { cwd: folder.path, env: { QEDIT_HOME: folder.at("home"), PATH: folder.at("bin") } });

describe.runIf(process.platform === "linux")("weights of blocks in bfloat16", () => {
  test("are refused on a GPU that has no kernel for them, which is named", async () => {
    await gpu("7.5");
    expectRefusal(await planned("--transformer", "packed.gguf", "--dtype", "bfloat16"), {
      code: 1,
      message: /packed\.gguf on cuda:0: weights in 4 or 8 bits want .* 8\.0 or more .* in bfloat16, NVIDIA T4 has 7\.5/,
      hint: /--dtype float32/,
    });
  });

  test("are planned in float32 there, and on a later one; so are weights of no blocks", async () => {
    await gpu("7.5");
    expect((await planned("--transformer", "packed.gguf", "--dtype", "float32")).code).toBe(0);
    expect((await planned("--dtype", "bfloat16")).code).toBe(0);
    await gpu("8.6");
    expect((await planned("--transformer", "packed.gguf", "--dtype", "bfloat16")).code).toBe(0);
  });
});
