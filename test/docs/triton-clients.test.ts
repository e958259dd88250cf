// The clients of docs/triton.md run as they stand there, with the files of an exported folder, against a real server of qedit: gRPC and HTTP.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Tokenizer } from "@huggingface/tokenizers";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readPictures } from "../../src/stages/pictures.js";
import type { Tensor } from "../../src/std/tensor.js";
import { readTokenizerJson } from "../../src/text/tokenizer.js";
import { CAT, ROCKET, spawned } from "../cli/qedit.js";
import { ensembleTensors, ranPixels, sentTensors, type WholeEdit } from "../server/kserve/ensemble-tensors.js";
import { inferHttp, type TestTensor } from "../server/kserve/http-client.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";
import { startServer, type TestServer } from "../support/server.js";
import { EXAMPLES } from "./triton-inputs.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const python = await pythonWith([
  ...["tritonclient[grpc]==2.73.0", "numpy==2.2.6", "pillow==11.3.0", "tokenizers==0.22.1"],
]);
if ("missing" in python) console.warn(`not run, for want of tritonclient: ${python.missing}`);

/** JPEG decoders differ by single units: these are PNG. */
const PICTURES = [folder.at("cat.png"), folder.at("rocket.png")];
const WORDS = ["seed=7", "steps=2", "megapixels=0.02"];

let server: TestServer;
let grpc: string;
beforeAll(async () => {
  for (const [index, path] of [CAT, ROCKET].entries()) await sharp(path).png().toFile(PICTURES[index]!);
  const command = ["export", "triton", "repository", "--model", "tiny", "--device", "cpu", "--images", "2", "--cfg"];
  const exported = await spawned(command, { cwd: folder.path });
  expect(exported.stderr).toBe("");
  server = await startServer({ folder: folder.path, args: ["--grpc", "127.0.0.1:0", "--no-cache"] });
  grpc = String(server.log.find((line) => line["grpc"] !== undefined)!["grpc"]);
});
afterAll(() => server.stop("SIGKILL"));

/** The largest and the mean difference of a picture's pixels from others, in 255ths. */
async function differenceOf(pixels: Uint8Array, shape: readonly number[], wanted: TestTensor) {
  expect(shape).toEqual(wanted.shape);
  const differences = [...wanted.bytes].map((value, at) => Math.abs(value - pixels[at]!));
  return {
    most: Math.max(...differences),
    mean: differences.reduce((sum, each) => sum + each, 0) / differences.length,
  };
}

async function pixelsOf(path: string) {
  const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return [data, [info.height, info.width, 3]] as const;
}

test.skipIf("missing" in python).each<[string, WholeEdit, readonly string[]]>([
  ["of one picture", { paths: PICTURES.slice(0, 1) }, []],
  ["of two pictures", { paths: PICTURES }, []],
  ["with guidance", { paths: PICTURES.slice(1), negative: "blurry" }, ["negative=blurry", "cfg=2.5"]],
])("the client in Python gets the picture of qedit run over gRPC: %s", async (_, edit, words) => {
  const output = folder.at("python.png");
  const script = [join(EXAMPLES, "triton_edit.py"), grpc, "repository", "make it winter", output];
  const bin = "bin" in python ? python.bin : "";
  await run(join(bin, "python"), [...script, ...edit.paths, ...WORDS, ...words], { cwd: folder.path });
  const { most } = await differenceOf(...(await pixelsOf(output)), await ranPixels(edit, folder));
  expect(most).toBeLessThanOrEqual(2);
});

test.each<[string, WholeEdit, readonly string[]]>([
  ["of two pictures", { paths: PICTURES }, []],
  ["with guidance", { paths: PICTURES.slice(0, 1), negative: "blurry" }, ["negative=blurry", "cfg=2.5"]],
])("the client in Node gets a picture of a seed over HTTP: %s", async (_, edit, words) => {
  const wanted = await ranPixels(edit, folder);
  const made = [];
  for (const output of ["one.png", "two.png"].map(folder.at)) {
    const script = [join(EXAMPLES, "triton-edit.mjs"), server.url, "repository", "make it winter", output];
    await run(process.execPath, [...script, ...edit.paths, ...WORDS, ...words], { cwd: folder.path });
    made.push(readFileSync(output));
    expect((await pixelsOf(output))[1]).toEqual(wanted.shape);
  }
  expect(made[0]!.equals(made[1]!)).toBe(true);
});

test("with the noise of qedit the client in Node gets nearly the picture of qedit run", async () => {
  const edit = { paths: PICTURES };
  const { editInputs } = await import(join(EXAMPLES, "triton-edit.mjs"));
  const settings = JSON.parse(readFileSync(folder.at("repository/qedit.json"), "utf8"));
  const pictures = (await readPictures(PICTURES)).map(({ image }) => image);
  const options = { tokenizer: new Tokenizer(await readTokenizerJson(), {}), steps: 2, megapixels: 0.02 };
  const made: [string, string, number[], Tensor["data"]][] = await editInputs(
    pictures,
    "make it winter",
    settings,
    options,
  );
  const [noise] = sentTensors({ noise: (await ensembleTensors(edit))["noise"]! });
  const inputs = made.map(([name, datatype, shape, { buffer, byteOffset, byteLength }]) =>
    name === "noise" ? noise! : { name, datatype, shape, bytes: Buffer.from(buffer, byteOffset, byteLength) },
  );
  const [image] = await inferHttp(server.url, "qedit_2", { inputs });
  const { mean } = await differenceOf(image!.bytes, image!.shape, await ranPixels(edit, folder));
  // sharp resizes in another way.
  expect(mean).toBeLessThan(6);
});

test("the client in Node says what the server refuses", async () => {
  const script = [join(EXAMPLES, "triton-edit.mjs"), server.url, "repository", "make it winter", "no.png"];
  const refused = run(process.execPath, [...script, PICTURES[0]!, "steps=1000"], { cwd: folder.path });
  await expect(refused).rejects.toThrow(/400: .*Cannot take 1000 steps: at most 200 are allowed/);
});
