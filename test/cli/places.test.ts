// Where files may lie: a ComfyUI tree, links, relative paths, and names as people give them.
import { cp, mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { CAT, expectRefusal, FILES, LORA, models, QUICK, qedit, shell, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const TREE = [
  ["comfy/models/vae", "qwen_image_vae.safetensors", FILES["--vae"]],
  ["comfy/models/text_encoders", "qwen_2.5_vl_7b_fp8_scaled.safetensors", FILES["--text-encoder"]],
  ["comfy/models/diffusion_models", "qwen_image_edit_2509_fp8_e4m3fn.safetensors", FILES["--transformer"]],
  ["comfy/models/loras", "style.safetensors", LORA],
] as const;
const ENCODE = ["encode-image", "cat.jpg", ...QUICK, "--megapixels", "0.001"];

beforeAll(async () => {
  for (const [place, name, target] of TREE) {
    await mkdir(folder.at(place), { recursive: true });
    await symlink(target, folder.at(`${place}/${name}`));
  }
  await cp(CAT, folder.at("cat.jpg"));
});

describe("a ComfyUI tree named by QEDIT_MODELS", () => {
  const env = { QEDIT_MODELS: folder.at("comfy/models") };

  test("serves run without any file named, and a LoRA by its name", async () => {
    // No --threads: as many as there are cores.
    const args = [
      "run",
      "cat.jpg",
      "-p",
      "x",
      "--device",
      "cpu",
      "--megapixels",
      "0.002",
      "--steps",
      "1",
      "--cfg",
      "1",
      "--lora",
      "style.safetensors:0.5",
      "-o",
      "tree.png",
    ];
    const { code, stdout, stderr } = await qedit(args, { ...here, env });
    expect([code, stdout]).toEqual([0, "tree.png\n"]);
    expect(stderr).toMatch(/style\.safetensors: matched 24\/24 modules, .*strength 0\.5$/m);
  });

  test("is searched after the folders before it, and a missing one is passed over", async () => {
    const { code } = await qedit([...ENCODE, "-o", "two.safetensors"], {
      ...here,
      env: { QEDIT_MODELS: `${folder.at("nowhere")}:${env.QEDIT_MODELS}` },
    });
    expect(code).toBe(0);
  });

  test("gives files by name", async () => {
    const { code } = await qedit([...ENCODE, "--vae", "qwen_image_vae.safetensors", "-o", "named.safetensors"], {
      ...here,
      env,
    });
    expect(code).toBe(0);
  });

  test("without a model file is named by models scan", async () => {
    await mkdir(folder.at("photographs"), { recursive: true });
    const { code, stderr } = await qedit(["models", "scan", "photographs"], here);
    expect([code, stderr]).toEqual([0, "no model file that qedit runs was found in photographs\n"]);
  });

  test("that lacks a file says which, and where it was looked for", async () => {
    const ended = await qedit([...ENCODE], { ...here, env: { QEDIT_MODELS: folder.at("comfy/models/loras") } });
    expectRefusal(ended, {
      code: 3,
      message: /Cannot find qwen_image_vae\.safetensors .* in .*comfy\/models\/loras or /,
      hint: /QEDIT_MODELS/,
    });
  });
});

describe("a models folder that is not there", () => {
  const nowhere = folder.at("nowhere");

  test("is reported when a model file is not found", async () => {
    const ended = await qedit([...ENCODE], { ...here, env: { QEDIT_MODELS: nowhere } });
    const message = /Cannot search .*nowhere for models, which QEDIT_MODELS names: there is no such folder/;
    expectRefusal(ended, { code: 3, message });
  });

  test("is a warning of models scan, and an error when it is what is to be scanned", async () => {
    const warned = await qedit(["models", "scan"], { ...here, env: { QEDIT_MODELS: nowhere } });
    expect([warned.code, warned.stderr]).toEqual([0, expect.stringMatching(/^warning: Cannot search .*nowhere/m)]);
    const ended = await qedit(["models", "scan", "nowhere"], here);
    expectRefusal(ended, {
      code: 2,
      message: /Cannot scan nowhere: there is no such folder/,
      hint: /qedit inspect FILE/,
    });
  });
});

test("a working folder that was removed is one clear line", async () => {
  const { code, stderr } = await shell("mkdir gone && cd gone && rmdir ../gone && qedit models list", folder.path);
  expect([code, stderr]).toEqual([
    1,
    "error: Cannot run here: the working folder does not exist any more\n  hint: cd ~\n",
  ]);
});

test("a Node.js that is too old to load qedit is one clear line", async () => {
  // As Node 18 is: its node:util has no styleText.
  const hooks = `export const resolve = (name, context, next) =>
    name === "node:util" ? { url: "data:text/javascript,", shortCircuit: true } : next(name, context);`;
  const older = `import { register } from "node:module";
    Object.defineProperty(process, "versions", { value: { ...process.versions, node: "18.20.8" } });
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)});`;
  const options = `--import=data:text/javascript,${encodeURIComponent(older)}`;
  const { code, stderr } = await shell(`NODE_OPTIONS="${options}" qedit models list`, folder.path);
  expect([code, stderr]).toEqual([
    1,
    "error: Cannot run on Node.js 18.20.8: 20.19 or newer is wanted\n  hint: Install a newer Node.js: https://nodejs.org\n",
  ]);
});

test("a folder for temporary files that is not there is one clear line", async () => {
  const jobs = ["a", "b"].map((name) => JSON.stringify({ images: ["cat.jpg"], prompt: "x", output: `${name}.png` }));
  await writeFile(folder.at("jobs.jsonl"), jobs.join("\n"));
  const args = [
    "batch",
    "jobs.jsonl",
    ...models(),
    ...QUICK,
    "--megapixels",
    "0.001",
    "--steps",
    "1",
    "--memory",
    "1k",
  ];
  const ended = await qedit(args, { ...here, env: { TMPDIR: folder.at("nowhere") } });
  expectRefusal(ended, { code: 1, message: /Cannot write .*nowhere: it does not exist/ });
});

test("qedit's own models folder under XDG_DATA_HOME is searched too", async () => {
  await mkdir(folder.at("data/qedit/models"), { recursive: true });
  await symlink(FILES["--vae"], folder.at("data/qedit/models/qwen_image_vae.safetensors"));
  expect(
    (await qedit([...ENCODE, "-o", "xdg.safetensors"], { ...here, env: { XDG_DATA_HOME: folder.at("data") } })).code,
  ).toBe(0);
});

test("a folder with spaces, accents and other scripts holds models, pictures and results", async () => {
  const name = "Mes modèles – 模型 #1 %20";
  await mkdir(folder.at(name));
  await cp(FILES["--vae"], folder.at(`${name}/vae ü.safetensors`));
  await cp(CAT, folder.at(`${name}/katze 猫.jpg`));
  const args = [
    "encode-image",
    `${name}/katze 猫.jpg`,
    "--vae",
    `${name}/vae ü.safetensors`,
    ...QUICK,
    "--megapixels",
    "0.001",
    "-o",
    `${name}/out ö.safetensors`,
  ];
  expect(await qedit(args, here)).toMatchObject({ code: 0, stdout: `${name}/out ö.safetensors\n` });
  expect(
    (
      await qedit(["encode-image", "katze 猫.jpg", "--vae", "vae ü.safetensors", ...QUICK, "--megapixels", "0.001"], {
        cwd: folder.at(name),
      })
    ).code,
  ).toBe(0);
});

test("a relative path and a link to a folder give the same bytes as the path itself", async () => {
  await symlink(folder.at("comfy/models/vae"), folder.at("linked"));
  const outputs = [];
  for (const [index, vae] of [
    FILES["--vae"],
    "linked/qwen_image_vae.safetensors",
    "./comfy/../comfy/models/vae/qwen_image_vae.safetensors",
  ].entries()) {
    const { stdout, code } = await qedit([...ENCODE, "--vae", vae, "--json", "-o", `path-${index}.safetensors`], here);
    expect(code).toBe(0);
    // The record names the file as it was named, which is what differs here.
    const { names: _, ...info } = (JSON.parse(stdout) as { info: Record<string, unknown> }).info;
    outputs.push(info);
  }
  expect(outputs[1]).toEqual(outputs[0]);
  expect(outputs[2]).toEqual(outputs[0]);
});

test("a model file that moves takes nothing with it", async () => {
  await cp(FILES["--vae"], folder.at("here.safetensors"));
  await rename(folder.at("here.safetensors"), folder.at("there.safetensors"));
  expect(
    (await qedit([...ENCODE, ...models({ "--vae": "there.safetensors" }, ["--vae"]), "-o", "moved.safetensors"], here))
      .code,
  ).toBe(0);
});
