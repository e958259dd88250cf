// qedit export triton: the folder that it writes, and what it refuses.
import { execFile } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { InferenceSession } from "onnxruntime-node";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { parseConfig } from "../../src/export/triton/model-config.js";
import { ROOT } from "../docs/pages.js";
import { serveExported } from "../support/exported-server.js";
import { CAT, type Ended, expectRefusal, LORA, models, qedit, ROCKET, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const CPU = ["--device", "cpu"];
const TINY = [...models(), ...CPU];
const exporting = (name: string, ...args: string[]) => qedit(["export", "triton", name, ...TINY, ...args], here);
const leftovers = () => readdirSync(folder.path).filter((name) => name.startsWith(".qedit-"));

let first: Ended;
beforeAll(async () => {
  first = await exporting("repository", "--images", "2", "--cfg", "--verify", "--json");
});

describe("an export of the tiny networks with guidance", () => {
  const at = (...names: string[]) => folder.at(join("repository", ...names));

  test("is verified against qedit: latents within 1e-5, pixels within 1", () => {
    expect(first.code, first.stderr).toBe(0);
    const { ensembles, verified } = JSON.parse(first.stdout) as {
      ensembles: string[];
      verified: { ensemble: string; latents: number; pixels: number }[];
    };
    expect(ensembles).toEqual(["qedit_1", "qedit_2", "qedit_1_cfg", "qedit_2_cfg"]);
    expect(verified.map(({ ensemble }) => ensemble)).toEqual(ensembles);
    for (const { latents, pixels } of verified) {
      expect(latents).toBeLessThanOrEqual(1e-5);
      expect(pixels).toBeLessThanOrEqual(1);
    }
  });

  test("has no copy of the weights, and no symbolic link", () => {
    const files = readdirSync(at(), { recursive: true, encoding: "utf8" });
    expect(files.filter((name) => lstatSync(at(name)).isSymbolicLink())).toEqual([]);
    const weights = files.filter((name) => name.endsWith(".safetensors"));
    expect(weights.length).toBeGreaterThanOrEqual(5);
    const originals = new Set(
      models()
        .filter((each) => each.endsWith(".safetensors"))
        .map((path) => statSync(path).ino),
    );
    expect(weights.filter((name) => !originals.has(statSync(at(name)).ino))).toEqual([]);
    expect(JSON.parse(first.stdout)).toMatchObject({ copied: 0 });
  });

  test("has configurations that are those of the sessions: names, types and shapes, none of rank 0", async () => {
    const types = { TYPE_FP32: "float32", TYPE_INT64: "int64", TYPE_UINT8: "uint8" };
    const members = readdirSync(at()).filter((name) => existsSync(at(name, "1", "model.onnx")));
    expect(members.length).toBeGreaterThanOrEqual(7);
    for (const name of members) {
      const config = parseConfig(readFileSync(at(name, "config.pbtxt"), "utf8"));
      // By its path, as Triton opens it.
      const isUnoptimized = config.optimization?.graph?.level === 2;
      const session = await InferenceSession.create(at(name, "1", "model.onnx"), {
        graphOptimizationLevel: isUnoptimized ? "disabled" : "all",
      });
      for (const side of ["input", "output"] as const) {
        const found = session[`${side}Metadata`].map((tensor) => {
          if (!tensor.isTensor) throw new Error(tensor.name);
          const dims = tensor.shape.map((dim) => (typeof dim === "number" ? dim : -1));
          return { name: tensor.name, type: tensor.type, dims };
        });
        const wanted = config[side].map(({ name: of, data_type: type, dims }) => ({
          name: of,
          type: types[type],
          dims,
        }));
        const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
        expect([name, ...found.sort(byName)]).toEqual([name, ...wanted.sort(byName)]);
        expect(wanted.every(({ dims }) => dims.length > 0)).toBe(true);
      }
      await session.release();
      expect(config.instance_group?.map(({ count }) => count)).toEqual([1]);
      expect(config.model_warmup).toHaveLength(1);
    }
  });

  test("tells how it is served, and what is fixed", () => {
    const readme = readFileSync(at("README.md"), "utf8");
    for (const text of [
      "tritonserver --model-repository=/models",
      "qedit_2_cfg",
      "| `sample_cfg` |",
      "vae.safetensors",
    ])
      expect(readme).toContain(text);
    const settings = JSON.parse(readFileSync(at("qedit.json"), "utf8"));
    expect(settings).toMatchObject({ format: "qedit-triton 1", fixed: { sampler: "euler", device: "cpu" } });
    expect(existsSync(at(settings.prompt.tokenizer))).toBe(true);
  });

  test("is edited with by the client in Node, through a server", async () => {
    const server = await serveExported(at());
    try {
      const client = join(ROOT, "docs/examples/triton-edit.mjs");
      const args = [client, server.url, at(), "make it winter", folder.at("client.png"), CAT, ROCKET];
      const env = { ...process.env, STEPS: "2", MEGAPIXELS: "0.02" };
      await promisify(execFile)(process.execPath, args, { env });
    } finally {
      await server.close();
    }
    const { width, height } = await sharp(folder.at("client.png")).metadata();
    expect([width! % 16, height! % 16]).toEqual([0, 0]);
  });

  test("is not replaced, but with force", async () => {
    expectRefusal(await exporting("repository"), { code: 2, message: /it is there already/, hint: /--force/ });
    const { code, stderr } = await exporting("repository", "--images", "1", "--force");
    expect(code, stderr).toBe(0);
    expect(existsSync(at("qedit_2"))).toBe(false);
    expect(leftovers()).toEqual([]);
  });
});

test("a LoRA is part of the export, with its strength", async () => {
  const ended = await exporting("with-lora", "--lora", `${LORA}:0.6`, "--images", "1");
  expect(ended.code, ended.stderr).toBe(0);
  const { fixed } = JSON.parse(readFileSync(folder.at("with-lora/qedit.json"), "utf8"));
  expect(fixed.weights["lora.0"]).toMatchObject({ file: "published.safetensors", strength: 0.6 });
});

test("an export for GPUs names them, and limits their memory", async () => {
  const args = ["export", "triton", "gpus", ...models(), "--gpus", "0,1", "--vram", "4G", "--images", "1"];
  const { code, stderr } = await qedit(args, here);
  expect(code, stderr).toBe(0);
  const configOf = (name: string) => parseConfig(readFileSync(folder.at(`gpus/${name}/config.pbtxt`), "utf8"));
  const config = configOf("sample");
  expect(config.instance_group).toEqual([{ kind: "KIND_GPU", count: 1, gpus: [0, 1] }]);
  // Beside the weights, which are small, all of them together take what was given.
  const names = ["encode_image", "encode_prompt", "sample", "decode"];
  const limits = names.map((name) => Number(configOf(name).parameters?.["gpu_mem_limit"]?.string_value));
  const sum = limits.reduce((total, each) => total + each);
  expect(sum).toBeGreaterThan(4e9);
  expect(sum).toBeLessThanOrEqual(4 * 1024 ** 3);
});

test.each([
  ["a folder of something else", ["photos", ...TINY, "--force"], 2, /no folder that qedit exported/],
  ["memory that the weights do not fit", ["small", ...models(), "--gpus", "0", "--vram", "1M"], 4, /the models need/],
  ["memory of a GPU for a CPU", ["cpu", ...TINY, "--vram", "1G"], 2, /without a GPU/],
  ["GPUs of a CPU", ["both", ...TINY, "--gpus", "0"], 2, /both name the server's devices/],
  ["four pictures", ["four", ...TINY, "--images", "4"], 2, /takes 3 at most/],
  ["eleven pictures", ["four", ...TINY, "--images", "11"], 2, /from 1 to 10/],
  [
    "a compute type that a CPU has not",
    ["half", ...TINY, "--dtype", "bfloat16"],
    2,
    /Cannot compute in "bfloat16" on cpu/,
  ],
  ["a model that is not there", ["missing", "--model", "qwen-image-edit-2509", ...CPU], 3, /./],
] as const)("%s is refused in one line, and nothing is left", async (_what, args, code, message) => {
  mkdirSync(folder.at("photos"), { recursive: true });
  writeFileSync(folder.at("photos/cat.txt"), "");
  expectRefusal(await qedit(["export", "triton", ...args], here), { code, message });
  expect(leftovers()).toEqual([]);
  if (args[0] !== "photos") expect(existsSync(folder.at(args[0]))).toBe(false);
});

test("an export that is killed leaves nothing under its name, and the next one removes what it left", async () => {
  const ended = await spawned(["export", "triton", "killed", ...TINY], {
    ...here,
    started(child) {
      const look = setInterval(() => {
        if (child.exitCode !== null) clearInterval(look);
        if (leftovers().length === 0) return;
        clearInterval(look);
        child.kill("SIGKILL");
      }, 1);
    },
  });
  expect(ended.signal).toBe("SIGKILL");
  expect(existsSync(folder.at("killed"))).toBe(false);
  expect(leftovers()).toHaveLength(1);
  const { code, stderr } = await exporting("killed", "--images", "1");
  expect(code, stderr).toBe(0);
  expect(leftovers()).toEqual([]);
});
