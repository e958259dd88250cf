// Edits of Qwen-Image-2.1 by a server of its exported models, and by qedit's own door for tensors, beside `qedit run`: the same bytes.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clientInputs, clientNumbers } from "../../src/edit/remote/client-inputs.js";
import { withAlpha } from "../../src/image/alpha.js";
import { openModel } from "../../src/stages/networks/model-handle.js";
import { readPictures } from "../../src/stages/pictures.js";
import { float32, type Tensors, tensor } from "../../src/std/tensor.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { sentTensors } from "../server/kserve/ensemble-tensors.js";
import { inferHttp } from "../server/kserve/http-client.js";
import { type ExportedServer, serveExported } from "../support/exported-server.js";
import { startServer, type TestServer } from "../support/server.js";
import { smallModel } from "../support/tiny-2.js";
import { CAT, expectRefusal, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
const env = await smallModel(folder.path);
const QEDIT = { cwd: folder.path, env };
const MODEL = ["--model", "small"];
let server: ExportedServer;
let own: TestServer;

beforeAll(async () => {
  const args = ["export", "triton", "repository", ...MODEL, "--device", "cpu", "--images", "2", "--cfg", "-q"];
  const { code, stderr } = await qedit(args, QEDIT);
  expect(code, stderr).toBe(0);
  server = await serveExported(folder.at("repository"));
  own = await startServer({ folder: folder.path, args: [...MODEL, "--no-cache"], env });
}, 120_000);
afterAll(async () => {
  await server.close();
  await own.stop("SIGKILL");
});

const NUMBERS = ["--steps", "2", "--seed", "3", "--shift", "3", "-f", "--no-cache"];
const EDIT = ["-p", "make it winter", "--megapixels", "0.01", ...NUMBERS];
const GENERATE = ["-p", "a red fox", "--size", "96x64", ...NUMBERS];
const GUIDED = ["--cfg", "2.5", "--negative-prompt", "blurry"];

async function made(args: readonly string[], output: string): Promise<Buffer> {
  const { code, stderr } = await qedit(["run", ...args, ...MODEL, "-o", output], QEDIT);
  expect(code, stderr).toBe(0);
  return readFileSync(folder.at(output));
}

describe.each([
  ["one picture", [CAT, ...EDIT]],
  ["two pictures", [CAT, ROCKET, ...EDIT]],
  ["two pictures with guidance", [CAT, ROCKET, ...EDIT, ...GUIDED]],
  ["a prompt alone", GENERATE],
  ["a prompt alone with guidance", [...GENERATE, ...GUIDED]],
])("of %s", (_, args) => {
  test("the whole edit in one request", async () => {
    const here = await made([...args, ...QUICK], "here.png");
    expect((await made([...args, "--remote", `qedit=${server.grpc}`], "there.png")).equals(here)).toBe(true);
  });

  test("stage by stage", async () => {
    const here = await made([...args, ...QUICK], "here.png");
    const remote = ["encode-image", "encode-prompt", "sample", "decode"].flatMap((stage) => [
      "--remote",
      `${stage}=${server.url}`,
    ]);
    expect((await made([...args, ...remote], "there.png")).equals(here)).toBe(true);
  });
});

describe("qedit's own door for tensors", () => {
  test.each([0, 1, 2, 4])("gives the pixels of qedit run, of %i pictures", async (count) => {
    const inputs = [CAT, ROCKET, CAT, ROCKET].slice(0, count);
    for (const isGuided of [false, true]) {
      const edit = count === 0 ? GENERATE : EDIT;
      const run = await made([...inputs, ...edit, ...(isGuided ? GUIDED : []), ...QUICK], "here.png");
      const [wanted] = await readPictures([{ name: "here.png", bytes: run }]);
      const tensors = await tensorsOf(inputs, isGuided);
      const name = `qedit_${count}${isGuided ? "_cfg" : ""}`;
      const [image] = await inferHttp(own.url, name, { inputs: sentTensors(tensors) });
      const { width, height, data } = withAlpha(wanted!.image, wanted!.alpha);
      expect([name, image!.shape, image!.bytes.equals(data)]).toEqual([name, [height, width, 4], true]);
    }
  });

  test("has the models of the family", async () => {
    const index = (await (await fetch(`${own.url}/v2/repository/index`, { method: "POST" })).json()) as {
      name: string;
    }[];
    const names = index.map(({ name }) => name).filter((name) => name.startsWith("qedit_"));
    expect(names).toHaveLength(22);
    expect(names.slice(0, 2)).toEqual(["qedit_0", "qedit_1"]);
    expect((await fetch(`${own.url}/v2/models/qedit_11`)).status).toBe(404);
    const stats = (await (await fetch(`${own.url}/v2/models/stats`)).json()) as { model_stats: { name: string }[] };
    expect(stats.model_stats.map(({ name }) => name).filter((name) => name.startsWith("qedit_"))).toEqual(names);
  });

  test.each<[string, (tensors: Tensors) => Tensors, RegExp]>([
    [
      "a side that is no whole token",
      (all) => ({ ...all, image_1: tensor("uint8", [64, 48, 4], new Uint8Array(64 * 48 * 4)) }),
      /sides in multiples of 32 are wanted, found 64 x 48/,
    ],
    [
      "a picture without transparency",
      (all) => ({ ...all, image_1: tensor("uint8", [64, 64, 3], new Uint8Array(64 * 64 * 3)) }),
      /image_1/,
    ],
    ["noise of odd sides", (all) => ({ ...all, noise: float32([1, all["noise"]!.shape[1]!, 3, 4]) }), /even sides/],
  ])("refuses %s", async (_, change, message) => {
    const tensors = change(await tensorsOf([CAT], false));
    await expect(inferHttp(own.url, "qedit_1", { inputs: sentTensors(tensors) })).rejects.toThrow(message);
  });
});

async function tensorsOf(inputs: readonly string[], isGuided: boolean): Promise<Tensors> {
  const at = (path: string) => join(env.QEDIT_MODELS, `${path}.safetensors`);
  const models = {
    vae: await openModel(at("vae/small-vae"), "vae"),
    textEncoder: await openModel(at("text_encoders/small-text-encoder"), "textEncoder"),
    transformer: await openModel(at("diffusion_models/small-transformer"), "transformer"),
  };
  const isGeneration = inputs.length === 0;
  const size = isGeneration ? { width: 96, height: 64 } : undefined;
  return clientInputs(
    {
      pictures: await readPictures(inputs),
      prompt: isGeneration ? "a red fox" : "make it winter",
      negativePrompt: isGuided ? "blurry" : undefined,
      sizes: { match: undefined, size, megapixels: isGeneration ? undefined : 0.01 },
      sampling: {
        ...{ sampler: "euler", scheduler: "simple", denoise: 1, shift: 3, cfgNorm: undefined, steps: 2, seed: 3n },
        cfg: isGuided ? 2.5 : 1,
      },
    },
    clientNumbers(models),
    await loadTokenizer("qwen3"),
  );
}

test("more pictures than were exported are refused by number", async () => {
  const args = ["run", CAT, ROCKET, CAT, ...EDIT, ...MODEL, "--remote", `qedit=${server.grpc}`, "-o", "no.png"];
  expectRefusal(await qedit(args, QEDIT), { code: 2, message: /up to 2/, hint: /--images 3/ });
});

test("a way of placing references is refused", async () => {
  const args = ["run", CAT, ...EDIT, "--reference-method", "index", "--remote", `qedit=${server.grpc}`, "-o", "no.png"];
  expectRefusal(await qedit([...args, ...MODEL], QEDIT), {
    code: 2,
    message: /in its one way|one way/,
    hint: /reference-method/,
  });
});

test("a server of another family is refused, whatever the rest of the settings", async () => {
  const args = ["export", "triton", "edit", "--model", "tiny", "--device", "cpu", "--images", "1", "-q"];
  expect((await qedit(args, QEDIT)).code).toBe(0);
  const other = await serveExported(folder.at("edit"));
  const message = /its model is of Qwen-Image, small is of Qwen-Image-2\.1/;
  for (const remote of [`qedit=${other.grpc}`, `sample=${other.url}`]) {
    const run = ["run", CAT, ...EDIT, ...MODEL, "--cfg-norm", "1", "--remote", remote, "-o", "no.png"];
    expectRefusal(await qedit(run, QEDIT), { code: 3, message, hint: /--model/ });
  }
  await other.close();
});

test("levels that do not begin with 1 are refused by their own name", async () => {
  const args = ["run", CAT, "-p", "x", "--megapixels", "0.01", "--sigmas", "0.8,0.4", "-f", ...MODEL];
  const call = [...args, "--remote", `qedit=${server.grpc}`, "-o", "no.png"];
  expectRefusal(await qedit(call, QEDIT), { code: 2, message: /--sigmas 0\.8,0\.4/, hint: /Begin --sigmas with 1/ });
});

test("an export for more pictures than Qwen-Image-Edit takes is refused", async () => {
  const args = ["export", "triton", "other", "--model", "tiny", "--device", "cpu", "--images", "4"];
  expectRefusal(await qedit(args, QEDIT), { code: 2, message: /takes 3 at most/, hint: /--images 3/ });
});
