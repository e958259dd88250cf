// Exports of every kind of model file, compared with qedit: one to three pictures, with guidance and without, each within the tolerance of float32.
import { expect, test } from "vitest";
import { LORA, models, qedit, workFolder } from "../../cli/qedit.js";
import { fixture } from "../../support/golden.js";
import { smallModel } from "../../support/tiny-2.js";

const folder = workFolder();
const env = await smallModel(folder.path);
const tiny = (name: string) => fixture(`tiny/${name}.safetensors`);

test.each([
  ["of 2509", models()],
  ["of 2511, whose references are at timestep 0", models({ "--transformer": tiny("transformer-2511") })],
  ["of scaled 8-bit floats", models({ "--transformer": tiny("transformer-scaled-fp8") })],
  ["of float32", models({ "--transformer": tiny("transformer-fp32"), "--vae": tiny("vae-fp32") })],
  ["with another VAE", models({ "--vae": tiny("vae-other") })],
  ["with a LoRA", [...models(), "--lora", `${LORA}:0.6`]],
  ["with two LoRAs, one of them turned around", [...models(), "--lora", `${LORA}:-0.5`, "--lora", `${LORA}:1.5`]],
  ["without CFGNorm", [...models(), "--cfg-norm", "none"]],
  ["of the model inside the package", ["--model", "tiny"]],
  ["of the model inside the package, in 4 steps", ["--model", "tiny", "--fast", "4"]],
  ["of Qwen-Image-2.1, of a prompt alone too", ["--model", "small", "--images", "2"]],
])("an export %s edits as qedit does", { timeout: 600_000 }, async (_what, args) => {
  const call = ["export", "triton", "made", ...args, "--device", "cpu", "--cfg", "--force", "--verify", "--json"];
  const { code, stdout, stderr } = await qedit(call, { cwd: folder.path, env });
  expect(code, stderr).toBe(0);
  const { verified } = JSON.parse(stdout) as { verified: { latents: number; pixels: number }[] };
  expect(verified).toHaveLength(6);
  for (const { latents, pixels } of verified) {
    expect(latents).toBeLessThanOrEqual(1e-5);
    expect(pixels).toBeLessThanOrEqual(1);
  }
});
