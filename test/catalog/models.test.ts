// models.json as published, and what the reader refuses in catalogues of others.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { findModelFiles } from "../../src/catalog/local/find.js";
import { modelNames, preset, publishedLora, publishedModel, readCatalog } from "../../src/catalog/published/models.js";
import { parseCatalog } from "../../src/catalog/published/models-schema.js";

describe("models.json", () => {
  test("lists the default model first, and every release once", async () => {
    expect(await modelNames()).toEqual([
      "qwen-image-edit-2509",
      "qwen-image-edit-2509-bf16",
      "qwen-image-edit-2511",
      "qwen-image-edit-2511-bf16",
      "qwen-image-edit",
      "firered-image-edit",
      "qwen-image-2.1",
      "qwen-image-2.1-bf16",
      "qwen-image-2.1-turbo",
      "tiny",
    ]);
  });

  test("Qwen-Image-2.1 is sampled without guidance, and not normalised with it", async () => {
    for (const [name, steps] of [
      ["qwen-image-2.1", 40],
      ["qwen-image-2.1-bf16", 40],
      ["qwen-image-2.1-turbo", 8],
    ] as const) {
      const { defaults, licence, loras } = await publishedModel(name);
      expect(defaults).toMatchObject({ steps, cfg: 1, cfgNorm: "none", sampler: "euler", scheduler: "simple" });
      // ComfyUI's 0.69 is the logarithm.
      expect(Math.log(defaults.shift)).toBeCloseTo(0.69, 5);
      expect([licence, loras]).toEqual(["Qwen Research License, not for commercial use", {}]);
    }
  });

  test("no two models share a transformer", async () => {
    const files = [...(await readCatalog()).models.values()].map(({ files: { transformer } }) => transformer.file);
    expect(new Set(files).size).toBe(files.length);
  });

  test("the LoRA of a preset is made for as many steps as the preset takes", async () => {
    for (const model of (await readCatalog()).models.values()) {
      for (const { lora, steps } of Object.values(model.presets)) {
        if (lora !== undefined) expect(model.loras[lora]!.file).toContain(`${steps}steps`);
      }
    }
  });

  test("a LoRA name means the file made for the model asked for", async () => {
    expect((await publishedLora("lightning-4steps", undefined)).file).toBe(
      "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
    );
    expect((await publishedLora("lightning-4steps", "qwen-image-edit-2511")).file).toBe(
      "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors",
    );
  });

  test("a preset sets LoRA, steps, guidance and shift together", async () => {
    expect(await preset("qwen-image-edit-2509", "fast-4")).toMatchObject({
      lora: "lightning-4steps",
      steps: 4,
      cfg: 1,
      shift: 3,
    });
  });

  test.each([
    ["a model", () => publishedModel("qwen-image-edit-2510")],
    ["a near miss of case", () => publishedModel("Qwen-Image-Edit-2509")],
    ["a name of JavaScript's own", () => publishedModel("constructor")],
    ["a LoRA", () => publishedLora("lightning-6steps", undefined)],
    ["a LoRA named as JavaScript's own", () => publishedLora("toString", undefined)],
    ["a preset", () => preset(undefined, "best")],
  ])("an unknown name of %s is refused with the names there are", async (_, find) => {
    await expect(find()).rejects.toMatchObject({
      code: "QEDIT_E_USAGE",
      message: expect.stringMatching(/qwen-image-edit-2509/),
    });
  });
});

const FILE = {
  file: "a.safetensors",
  bytes: 10,
  licence: "MIT",
  repository: "owner/name",
  path: "a.safetensors",
  revision: "main",
};
const DEFAULTS = { steps: 4, cfg: 1, sampler: "euler", scheduler: "simple", shift: 3, cfgNorm: 1 };
const catalogOf = (file: object) => ({
  default: "m",
  models: {
    m: {
      summary: "a model",
      licence: "MIT",
      files: { vae: file, textEncoder: file, transformer: file },
      defaults: DEFAULTS,
    },
  },
});

describe("a catalogue of one's own", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "qedit-catalog-"));
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  const use = async (written: string) => {
    const path = join(folder, "mine.json");
    await writeFile(path, written);
    vi.stubEnv("QEDIT_CATALOG", path);
  };

  test("is read instead of qedit's where QEDIT_CATALOG names it", async () => {
    await use(JSON.stringify(catalogOf(FILE)));
    expect((await publishedModel(undefined)).files.vae).toEqual(FILE);
  });

  test("finds an embedded file inside qedit's package", async () => {
    const embedded = { file: "vae.safetensors", bytes: 10, licence: "MIT", embedded: "fixtures/tiny/vae.safetensors" };
    await use(JSON.stringify(catalogOf(embedded)));
    const { vae } = await findModelFiles({}, { model: "m", roles: ["vae"] });
    expect(vae).toMatch(/fixtures[/\\]tiny[/\\]vae\.safetensors$/);
  });

  test("that is no JSON, or absent, is refused by name", async () => {
    await use("{");
    await expect(readCatalog()).rejects.toMatchObject({
      code: "QEDIT_E_USAGE",
      message: expect.stringContaining("mine.json: it is not JSON"),
    });
    vi.stubEnv("QEDIT_CATALOG", join(folder, "absent.json"));
    await expect(readCatalog()).rejects.toMatchObject({ code: "QEDIT_E_IO" });
  });
});

describe("a catalogue is refused when", () => {
  test.each([
    ["a file name climbs out of its folder", { ...FILE, file: "../a.safetensors" }, /\.file is/],
    ["a file name is a path", { ...FILE, file: "/etc/passwd" }, /\.file is/],
    ["a file name is a Windows path", { ...FILE, file: "C:\\a.safetensors" }, /\.file is/],
    ["a path climbs out of its repository", { ...FILE, path: "x/../../../a" }, /\.path is/],
    ["a path is absolute", { ...FILE, path: "/a" }, /\.path is/],
    ["a revision climbs", { ...FILE, revision: "../main" }, /\.revision is/],
    ["a repository is no OWNER/NAME", { ...FILE, repository: "owner/name/../.." }, /\.repository is/],
    ["an embedded path climbs out of the package", { ...FILE, embedded: "../../a" }, /\.embedded is/],
    ["a hash is not 64 hexadecimal digits", { ...FILE, sha256: "abc" }, /\.sha256 is/],
    ["a length is no whole number", { ...FILE, bytes: 1.5 }, /\.bytes is/],
  ])("%s", (_, file, message) => {
    expect(() => parseCatalog(catalogOf(file), "mine.json")).toThrow(message);
  });

  test.each([
    ["its default is none of its models", { ...catalogOf(FILE), default: "other" }],
    ["it has no models", { default: "m" }],
    [
      "a preset names a LoRA that the model lacks",
      {
        ...catalogOf(FILE),
        models: { m: { ...catalogOf(FILE).models.m, presets: { p: { summary: "x", lora: "y" } } } },
      },
    ],
    [
      "a preset sets a number nobody knows",
      {
        ...catalogOf(FILE),
        models: { m: { ...catalogOf(FILE).models.m, presets: { p: { summary: "x", stepz: 4 } } } },
      },
    ],
    [
      "a shared file is not there",
      { ...catalogOf(FILE), models: { m: { ...catalogOf(FILE).models.m, loras: { l: "absent.safetensors" } } } },
    ],
  ])("%s", (_, json) => {
    expect(() => parseCatalog(json, "mine.json")).toThrow(/^Cannot use mine\.json/);
  });

  const model = catalogOf(FILE).models.m;
  const withModel = (changes: object) => ({ default: "m", models: { m: { ...model, ...changes } } });
  test.each([
    ["a list", [], "the catalogue is [], an object is wanted"],
    ["no default", { models: {} }, "default is missing, a text is wanted"],
    ["models that are a list", { default: "m", models: [] }, "models is [], an object is wanted"],
    ["an empty summary", withModel({ summary: "" }), 'models.m.summary is "", a text is wanted'],
    [
      "no transformer",
      withModel({ files: { vae: FILE, textEncoder: FILE } }),
      "models.m.files.transformer is missing, an object is wanted",
    ],
    [
      "steps below 0",
      withModel({ defaults: { ...DEFAULTS, steps: -1 } }),
      "models.m.defaults.steps is -1, a number is wanted",
    ],
    [
      "no shift",
      withModel({ defaults: { ...DEFAULTS, shift: undefined } }),
      "models.m.defaults.shift is missing, a number",
    ],
    [
      "a misspelt number",
      withModel({ presets: { p: { summary: "x", stepz: 4 } } }),
      "models.m.presets.p.stepz is 4, one of steps, cfg, shift, cfgNorm,",
    ],
    [
      "a LoRA that is nowhere",
      withModel({ presets: { p: { summary: "x", lora: "constructor" } } }),
      `models.m.presets.p.lora is "constructor", the name of one of the model's loras is wanted`,
    ],
    [
      "a shared file that is nowhere",
      withModel({ loras: { l: "toString" } }),
      'models.m.loras.l is "toString", a file, or the name of one under "files" is wanted',
    ],
    [
      "a damaged shared file",
      { ...catalogOf(FILE), files: { "b.safetensors": { ...FILE, file: undefined, bytes: 0 } } },
      "files.b.safetensors.bytes is 0, a whole number above 0 is wanted",
    ],
  ])("it has %s, naming the key and what is wanted", (_, json, message) => {
    const parsed: unknown = JSON.parse(JSON.stringify(json));
    expect(() => parseCatalog(parsed, "mine.json")).toThrow(`Cannot use mine.json: ${message}`);
  });

  test("takes no key that means something to JavaScript for a model", () => {
    const text = JSON.stringify(catalogOf(FILE)).replace('"models":{', '"models":{"__proto__":{"summary":"x"},');
    expect([...parseCatalog(JSON.parse(text), "mine.json").models.keys()]).toEqual(["m"]);
  });
});
