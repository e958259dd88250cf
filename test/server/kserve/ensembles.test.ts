// The models of an exported folder on a real server: their tensors, a whole edit by both doors, and what is refused before anything is computed.
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { float32, type Tensors, tensor } from "../../../src/std/tensor.js";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ENSEMBLES } from "./edits.js";
import { ensembleTensors, ranPixels, sentTensors } from "./ensemble-tensors.js";
import { called, type GrpcClient, grpcClient, inferGrpc } from "./grpc-client.js";
import { inferHttp, type TestTensor } from "./http-client.js";

const folder = temporaryFolder();
const EDIT = { paths: [CAT] };
const GUIDED = { paths: [CAT], negative: "blurry" };

let server: TestServer;
let client: GrpcClient;
let tensors: Tensors;
let guided: Tensors;
beforeAll(async () => {
  server = await startServer({
    folder: folder.path,
    args: ["--grpc", "127.0.0.1:0", "--no-cache", "--max-megapixels", "0.5", "--max-steps", "9", "--metrics"],
  });
  client = grpcClient(String(server.log.find(({ grpc }) => grpc !== undefined)!["grpc"]));
  [tensors, guided] = [await ensembleTensors(EDIT), await ensembleTensors(GUIDED)];
});
afterAll(async () => {
  client.close();
  await server.stop("SIGKILL");
});

const json = async (path: string, options: RequestInit = {}) => (await fetch(`${server.url}${path}`, options)).json();

describe("the models of an exported folder", () => {
  test("are listed, ready and counted", async () => {
    const index = (await json("/v2/repository/index", { method: "POST" })) as { name: string; state: string }[];
    expect(index.slice(-6).map(({ name, state }) => [name, state])).toEqual(ENSEMBLES.map((name) => [name, "READY"]));
    expect((await fetch(`${server.url}/v2/models/qedit_3_cfg/ready`)).status).toBe(200);
    expect(await called(client, "ModelReady", { name: "qedit_2" })).toEqual({ ready: true });
    const { model_stats: all } = (await json("/v2/models/stats")) as { model_stats: { name: string }[] };
    expect(all.map(({ name }) => name)).toEqual(expect.arrayContaining(ENSEMBLES));
    for (const path of ["", "/ready", "/config", "/stats"])
      expect((await fetch(`${server.url}/v2/models/qedit_4${path}`)).status, path).toBe(404);
    for (const call of ["load", "unload"])
      expect((await fetch(`${server.url}/v2/repository/models/qedit_0/${call}`, { method: "POST" })).status).toBe(404);
  });

  test("have the tensors of the exported configurations", async () => {
    expect(await json("/v2/models/qedit_2_cfg")).toMatchObject({
      inputs: [
        { name: "image_1", datatype: "UINT8", shape: [-1, -1, 3] },
        { name: "image_2", datatype: "UINT8", shape: [-1, -1, 3] },
        { name: "input_ids", datatype: "INT64", shape: [1, -1] },
        { name: "pixel_values", datatype: "FP32", shape: [-1, 1176] },
        { name: "image_grid_thw", datatype: "INT64", shape: [-1, 3] },
        { name: "negative_input_ids", datatype: "INT64", shape: [1, -1] },
        { name: "noise", datatype: "FP32", shape: [1, 16, -1, -1] },
        { name: "sigmas", datatype: "FP32", shape: [-1] },
        { name: "cfg", datatype: "FP32", shape: [1] },
      ],
      outputs: [{ name: "image", datatype: "UINT8", shape: [-1, -1, 3] }],
    });
    const { config } = await called<{ config: { parameters: object } }>(client, "ModelConfig", { name: "qedit_1" });
    expect(config).toMatchObject({
      max_batch_size: 0,
      input: expect.arrayContaining([expect.objectContaining({ name: "noise", data_type: "TYPE_FP32" })]),
      parameters: { transformer: { string_value: "tiny_edit_fp8_e4m3fn.safetensors" } },
    });
  });
});

test("an edit by either door has the pixels of qedit run, and is a job of the server", async () => {
  const wanted = await ranPixels(EDIT, folder);
  expect(await inferHttp(server.url, "qedit_1", { inputs: sentTensors(tensors) })).toEqual([wanted]);
  const [image] = await inferGrpc(client, "qedit_1", { inputs: sentTensors(tensors), outputs: ["image"] });
  expect(image!.bytes.equals(wanted.bytes)).toBe(true);
  const {
    model_stats: [stats],
  } = (await json("/v2/models/qedit_1/stats")) as {
    model_stats: [{ inference_stats: { success: { count: number } } }];
  };
  expect(stats.inference_stats.success.count).toBe(2);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toContain('qedit_jobs_total{state="completed"} 2');
  expect(metrics).toContain('qedit_stage_seconds_count{stage="sample"} 2');
});

describe("what no edit has is refused before anything is computed:", () => {
  const changed = (name: string, change: (data: never) => void, base = () => tensors): (() => Tensors) => {
    return () => {
      const given = base()[name]!;
      const data = given.data.slice();
      change(data as never);
      return { ...base(), [name]: { ...given, data } };
    };
  };
  const instead = (others: Tensors) => () => ({ ...tensors, ...others });
  const zeros = (...shape: number[]) => float32(shape);
  const bytes = (...shape: number[]) => tensor("uint8", shape, new Uint8Array(shape.reduce((a, b) => a * b)));
  const levels = (...sigmas: number[]) => instead({ sigmas: float32([sigmas.length], Float32Array.from(sigmas)) });

  test.each<[string, () => Tensors, RegExp]>([
    ["no sigma", levels(), /"sigmas": wanted \[-1\], found \[0\]/],
    ["one sigma", levels(1), /"sigmas": two noise levels or more are wanted, found 1/],
    ["levels that rise", levels(1, 0.4, 0.5, 0), /"sigmas": noise levels fall, found 0.5 after 0.4/],
    ["levels that stay", levels(1, 0.5, 0.5, 0), /"sigmas": noise levels fall/],
    ["a level above 1", levels(1.5, 0), /"sigmas": noise levels fall from 1 at most to 0 at least, found 1.5 to 0/],
    ["a level below 0", levels(1, -1), /"sigmas": noise levels fall from 1 at most to 0 at least/],
    ["NaN among levels", levels(1, Number.NaN, 0), /"sigmas": NaN at element 1/],
    ["too many steps", levels(...Array.from({ length: 11 }, (_, i) => 1 - i / 10)), /10 steps: at most 9 are allowed/],
    ["NaN in the noise", changed("noise", (data: Float32Array) => (data[3] = Number.NaN)), /"noise": NaN at element 3/],
    [
      "noise without bounds",
      changed("noise", (data: Float32Array) => (data[3] = -1e30)),
      /"noise": -1\.0+\d*e\+30 at element 3, more than 1000000/,
    ],
    ["noise of other channels", instead({ noise: zeros(1, 4, 16, 20) }), /"noise": wanted \[1, 16, -1, -1\]/],
    ["noise of two pictures", instead({ noise: zeros(2, 16, 16, 20) }), /"noise": wanted \[1, 16, -1, -1\]/],
    ["a result that is too large", instead({ noise: zeros(1, 16, 96, 128) }), /"noise": it is of 0.75 megapixels/],
    [
      "a picture with other sides",
      instead({ image_1: bytes(60, 64, 3) }),
      /"image_1": sides in multiples of 8 .* 60 x 64/,
    ],
    ["a picture with four channels", instead({ image_1: bytes(64, 64, 4) }), /"image_1": wanted \[-1, -1, 3\]/],
    ["a picture without rows", instead({ image_1: bytes(0, 64, 3) }), /"image_1": wanted \[-1, -1, 3\]/],
    ["a picture that is too large", instead({ image_1: bytes(1024, 768, 3) }), /"image_1": it is of 0.75 megapixels/],
    ["a picture in floats", instead({ image_1: zeros(64, 64, 3) }), /"image_1": wanted UINT8, found FP32/],
    [
      "a token that there is not",
      changed("input_ids", (data: BigInt64Array) => (data[9] = 400_000n)),
      /"input_ids": tokens .* found 400000 at element 9/,
    ],
    [
      "a token below 0",
      changed("input_ids", (data: BigInt64Array) => (data[9] = -1n)),
      /"input_ids": tokens .* found -1/,
    ],
    [
      "tokens of no template",
      changed("input_ids", (data: BigInt64Array) => data.fill(7n)),
      /"input_ids": it is not in the edit template/,
    ],
    [
      "tokens without a picture",
      changed("input_ids", (data: BigInt64Array) => data.forEach((id, at) => (data[at] = id === 151655n ? 7n : id))),
      /"input_ids": <\|image_pad\|> once/,
    ],
    [
      "a picture's tokens apart",
      changed("input_ids", (data: BigInt64Array) => (data[data.indexOf(151655n) + 3] = 7n)),
      /"input_ids": <\|image_pad\|> once/,
    ],
    [
      "too many tokens",
      instead({ input_ids: tensor("int64", [1, 20_000], new BigInt64Array(20_000)) }),
      /"input_ids": it has 20000 tokens/,
    ],
    [
      "patches that are none",
      changed("pixel_values", (data: Float32Array) => (data[5] = Number.POSITIVE_INFINITY)),
      /"pixel_values": Infinity at element 5/,
    ],
    [
      "fewer patches than the grid",
      instead({ pixel_values: zeros(4, 1176) }),
      /"pixel_values": \d+ rows are wanted.* found 4/,
    ],
    ["patches of another width", instead({ pixel_values: zeros(4, 1000) }), /"pixel_values": wanted \[-1, 1176\]/],
    [
      "a grid of two pictures",
      instead({ image_grid_thw: tensor("int64", [2, 3], BigInt64Array.from([1n, 2n, 2n, 1n, 2n, 2n])) }),
      /"image_grid_thw": 1 row is wanted, one for each picture, found 2/,
    ],
    [
      "a grid of frames",
      changed("image_grid_thw", (data: BigInt64Array) => (data[0] = 2n)),
      /"image_grid_thw": rows of 1/,
    ],
    ["an odd grid", changed("image_grid_thw", (data: BigInt64Array) => (data[1] = 3n)), /"image_grid_thw": rows of 1/],
    [
      "a grid below 0",
      changed("image_grid_thw", (data: BigInt64Array) => (data[1] = -2n)),
      /"image_grid_thw": rows of 1/,
    ],
    [
      "a grid beyond all counting",
      changed("image_grid_thw", (data: BigInt64Array) => (data[1] = 2n ** 62n)),
      /"image_grid_thw": rows of 1/,
    ],
    [
      "a grid that is too large",
      changed("image_grid_thw", (data: BigInt64Array) => data.set([1n, 1000n, 1000n])),
      /1000 x 1000 patches, at most 4096 are allowed/,
    ],
    ["a tensor more", () => guided, /"negative_input_ids" is no input of qedit_1/],
    ["a tensor less", () => ({ image_1: tensors["image_1"]! }), /qedit_1 lacks the input "input_ids"/],
  ])("%s", async (_, made, message) => {
    const inputs = sentTensors(made());
    await expect(inferGrpc(client, "qedit_1", { inputs })).rejects.toMatchObject({
      ...{ code: status.INVALID_ARGUMENT, details: expect.stringMatching(message) },
    });
  });

  test.each([
    ["NaN", Number.NaN],
    ["a negative one", -1],
    ["an infinite one", Number.POSITIVE_INFINITY],
    ["a huge one", 1e9],
  ])("%s as cfg", async (_, cfg) => {
    const inputs = sentTensors({ ...guided, cfg: float32([1], Float32Array.of(cfg)) });
    await expect(inferHttp(server.url, "qedit_1_cfg", { inputs })).rejects.toThrow(/^400: .*cfg.*from 0 to 100/);
  });

  test("parameters, which would not count", async () => {
    const inputs = sentTensors(tensors);
    await expect(inferHttp(server.url, "qedit_1", { inputs, parameters: { steps: 4 } })).rejects.toThrow(
      /^400: .*steps.* is no parameter of qedit_1/,
    );
  });

  test("and nothing was computed for any of them", async () => {
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toContain('qedit_stage_seconds_count{stage="encode-image"} 2');
  });
});

test("a tensor may come as JSON, as every model's", async () => {
  const inputs: readonly TestTensor[] = sentTensors(tensors);
  const body = JSON.stringify({
    inputs: Object.entries(tensors).map(([name, { shape, data }], index) => ({
      ...{ name, shape, datatype: inputs[index]!.datatype },
      data: Array.from(data as ArrayLike<number | bigint>, Number),
    })),
  });
  const answer = (await json("/v2/models/qedit_1/infer", { method: "POST", body })) as {
    outputs: [{ name: string; datatype: string; shape: number[]; data: number[] }];
  };
  const [{ shape, data }] = answer.outputs;
  expect(data).toHaveLength(shape.reduce((count, side) => count * side));
});
