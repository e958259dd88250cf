// Where files are looked for, and which of several is taken.

import { mkdir, symlink } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { findFile, findLora, findModelFiles, findNamed } from "../../src/catalog/local/find.js";
import { modelPlaces } from "../../src/catalog/local/model-folders.js";
import { FILE_ROLES, type HubFile, publishedModel } from "../../src/catalog/published/models.js";
import { cached, homeFolder, note, place } from "./tree.js";

const home = homeFolder();
const VAE = "qwen_image_vae.safetensors";

async function found(name = VAE): Promise<string | undefined> {
  return findFile(name);
}

describe("a file is found by its name in", () => {
  test.each([
    ["a plain folder", "models", VAE],
    ["a ComfyUI models folder", "comfy/models", `vae/${VAE}`],
    ["the older names of ComfyUI's folders", "comfy/models", `clip/${VAE}`],
    ["a ComfyUI folder", "comfy", `models/text_encoders/${VAE}`],
    ["a folder that a user made below it", "comfy", `models/loras/qwen/edit/${VAE}`],
    ["an A1111 folder", "webui", `models/Lora/${VAE}`],
    ["a Forge folder", "forge", `models/VAE/${VAE}`],
  ])("%s named by QEDIT_MODELS", async (_, root, path) => {
    vi.stubEnv("QEDIT_MODELS", home.at(root));
    const file = await place(home.at(`${root}/${path}`), "vae-fp32");
    expect(await found()).toBe(file);
  });

  test.each([
    "ComfyUI/models/vae",
    "comfy/ComfyUI/models/vae",
    "stable-diffusion-webui/models/VAE",
    "stable-diffusion-webui-forge/models/VAE",
  ])("~/%s, without being told", async (folder) => {
    const file = await place(home.at(`${folder}/${VAE}`), "vae-fp32");
    expect(await found()).toBe(file);
  });

  test("qedit's own folder, which XDG_DATA_HOME and QEDIT_HOME move", async () => {
    const inData = await place(home.at(`data/qedit/models/vae/${VAE}`), "vae-fp32");
    const inHome = await place(home.at(`mine/data/models/vae/${VAE}`), "vae-fp32");
    vi.stubEnv("XDG_DATA_HOME", home.at("data"));
    expect(await found()).toBe(inData);
    vi.stubEnv("QEDIT_HOME", home.at("mine"));
    expect(await found()).toBe(inHome);
  });

  test("a folder that links to itself, without end", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("loop"));
    await mkdir(home.at("loop/a/b"), { recursive: true });
    await symlink(home.at("loop"), home.at("loop/a/b/c"));
    expect(await found()).toBeUndefined();
    const file = await place(home.at(`loop/a/b/${VAE}`), "vae-fp32");
    expect(await found()).toBe(file);
  });
});

describe("of several files of a name", () => {
  test("the first place wins: --models-dir, QEDIT_MODELS in order, qedit's own, then other tools'", async () => {
    const places = ["dir", "first", "second", ".local/share/qedit/models", "ComfyUI/models/vae"].map((folder) =>
      home.at(`${folder}/${VAE}`),
    );
    for (const path of places) await place(path, "vae-fp32");
    vi.stubEnv("QEDIT_MODELS", [home.at("first"), home.at("second")].join(delimiter));
    expect(await findFile(VAE, { modelsDirs: [home.at("dir")] })).toBe(places[0]);
    expect(await found()).toBe(places[1]);
    vi.stubEnv("QEDIT_MODELS", "");
    expect(await found()).toBe(process.platform === "darwin" ? places[4] : places[3]);
  });

  test("a path is taken as it is", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("models"));
    await place(home.at(`models/${VAE}`), "vae-fp32");
    const other = await place(home.at(`other/${VAE}`), "vae-fp32");
    expect(await findNamed(other)).toBe(other);
    await expect(findNamed(home.at(`absent/${VAE}`))).rejects.toMatchObject({ code: "QEDIT_E_MODEL_MISSING" });
  });
});

describe("extra_model_paths.yaml", () => {
  test("leads to the folders of other tools: base paths, blocks of lines, ~ and variables", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("comfy"));
    vi.stubEnv("STORE", home.at("store"));
    await note(
      home.at("comfy/extra_model_paths.yaml"),
      [
        "# a comment",
        "a111:",
        `    base_path: ${home.at("webui")}`,
        "    checkpoints: models/Stable-diffusion",
        "    loras: |",
        "         models/Lora",
        "         models/LyCORIS",
        "relative:",
        "    base_path: ../beside",
        "    is_default: true",
        "    vae: vae/",
        "free:",
        "    text_encoders: ~/encoders",
        "    unet: $STORE/unet",
        "    clip:",
        "empty:",
      ].join("\n"),
    );
    const { places, problems } = await modelPlaces();
    expect(problems).toEqual([]);
    const folders = places
      .filter(({ source }) => source === "extra_model_paths.yaml")
      .map(({ folder }) => join(folder, "."));
    expect(folders).toEqual(
      [
        "webui/models/Stable-diffusion",
        "webui/models/Lora",
        "webui/models/LyCORIS",
        "beside/vae",
        "encoders",
        "store/unet",
      ].map(home.at),
    );
    const file = await place(home.at(`webui/models/LyCORIS/deep/style.safetensors`), "loras/published");
    expect(await findFile("style.safetensors")).toBe(file);
  });

  test("beside a models folder is read too", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("comfy/models"));
    await note(home.at("comfy/extra_model_paths.yaml"), `mine:\n  vae: ${home.at("elsewhere")}\n`);
    const file = await place(home.at(`elsewhere/${VAE}`), "vae-fp32");
    expect(await found()).toBe(file);
  });

  test("that is out of form is a problem to tell, and hides nothing else", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("comfy"));
    await note(home.at("comfy/extra_model_paths.yaml"), "a: [unclosed");
    const file = await place(home.at(`comfy/models/vae/${VAE}`), "vae-fp32");
    expect(await found()).toBe(file);
    expect((await modelPlaces()).problems).toEqual([expect.stringMatching(/^Cannot read .*extra_model_paths\.yaml: /)]);
  });
});

test("a list of 200,000 folders is a problem to report", async () => {
  vi.stubEnv("QEDIT_MODELS", home.at("comfy"));
  await note(home.at("comfy/extra_model_paths.yaml"), `a:\n  vae: [${Array.from({ length: 200_000 }, (_, i) => i)}]\n`);
  expect((await modelPlaces()).problems).toEqual([expect.stringMatching(/extra_model_paths\.yaml/)]);
});

describe("the Hugging Face cache", () => {
  const repository = "Comfy-Org/Qwen-Image_ComfyUI";
  const path = `split_files/vae/${VAE}`;

  test("serves a published file through its links, at any revision", async () => {
    const link = await cached(home.at(".cache/huggingface/hub"), [repository, "0123abcd", path], "vae-fp32");
    expect((await findModelFiles({}, { model: undefined, roles: ["vae"] })).vae).toBe(link);
  });

  test("at the published revision comes first", async () => {
    vi.stubEnv("HF_HOME", home.at("hf"));
    const { revision } = (await publishedModel(undefined)).files.vae as HubFile;
    const link = await cached(home.at("hf/hub"), [repository, revision, path], "vae-fp32");
    await cached(home.at("hf/hub"), [repository, "0123abcd", path], "vae-other");
    expect((await findModelFiles({}, { model: undefined, roles: ["vae"] })).vae).toBe(link);
  });

  test("moves with HF_HUB_CACHE, and serves files of other repositories by name", async () => {
    vi.stubEnv("HF_HUB_CACHE", home.at("cache"));
    const link = await cached(home.at("cache"), ["somebody/loras", "77", "deep/style.safetensors"], "loras/published");
    expect(await findFile("style.safetensors")).toBe(link);
  });

  test("with a link to nothing, as a broken download leaves it, serves nothing", async () => {
    const link = home.at(`.cache/huggingface/hub/models--Comfy-Org--Qwen-Image_ComfyUI/snapshots/77/${path}`);
    await mkdir(dirname(link), { recursive: true });
    await symlink(home.at("nowhere"), link);
    await expect(findModelFiles({}, { model: undefined, roles: ["vae"] })).rejects.toMatchObject({
      code: "QEDIT_E_MODEL_MISSING",
      hint: expect.stringContaining("qedit models pull"),
    });
  });
});

describe("a model", () => {
  test("may be a folder as diffusers lays it out", async () => {
    for (const part of ["vae", "text_encoder", "transformer"])
      await mkdir(home.at(`model/${part}`), { recursive: true });
    const files = await findModelFiles({}, { model: `${home.at("model")}`, roles: FILE_ROLES });
    expect(files).toEqual({
      vae: home.at("model/vae"),
      textEncoder: home.at("model/text_encoder"),
      transformer: home.at("model/transformer"),
    });
  });

  test("that is a folder without its parts is refused", async () => {
    await mkdir(home.at("model/vae"), { recursive: true });
    await expect(findModelFiles({}, { model: home.at("model"), roles: FILE_ROLES })).rejects.toMatchObject({
      message: expect.stringContaining("Cannot find text_encoder in"),
    });
  });
});

describe("a LoRA", () => {
  const FILE = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors";

  test("is found by its catalogue name, as the file made for the model", async () => {
    vi.stubEnv("QEDIT_MODELS", home.at("models"));
    const file = await place(home.at(`models/loras/${FILE}`), "loras/published");
    expect(await findLora("lightning-4steps", { model: "qwen-image-edit-2511" })).toBe(file);
    await expect(findLora("lightning-4steps", { model: undefined })).rejects.toMatchObject({
      code: "QEDIT_E_MODEL_MISSING",
      message: expect.stringContaining("Qwen-Image-Edit-2509-Lightning-4steps"),
    });
  });

  test("by a name that nobody knows is refused", async () => {
    await expect(findLora("lightning-5steps", { model: undefined })).rejects.toMatchObject({
      code: "QEDIT_E_USAGE",
      message: expect.stringContaining("lightning-4steps"),
    });
    await expect(findLora("absent.safetensors", { model: undefined })).rejects.toMatchObject({
      code: "QEDIT_E_MODEL_MISSING",
    });
  });
});
