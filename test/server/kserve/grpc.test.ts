// KServe V2 over gRPC on a real server process: every method, streams with progress, cancelling, deadlines, keys, refusals.
import { once } from "node:events";
import { type ClientUnaryCall, credentials, makeClientConstructor, type ServiceError, status } from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { chained, ENSEMBLES, imagesOf, STAGES_AND_EDIT } from "./edits.js";
import {
  called,
  type GrpcClient,
  grpcClient,
  inferGrpc,
  inferRequest,
  type StreamResponse,
  tensorsOf,
} from "./grpc-client.js";
import { firstString, strings, type TestCall, type TestTensor } from "./http-client.js";

const folder = temporaryFolder();

let server: TestServer;
let address: string;
let client: GrpcClient;
beforeAll(async () => {
  server = await startServer({ folder: folder.path, args: ["--grpc", "127.0.0.1:0", "--no-cache"] });
  address = grpcAddress(server);
  client = grpcClient(address);
});
afterAll(async () => {
  client.close();
  await server.stop("SIGKILL");
});

function grpcAddress({ log }: TestServer): string {
  return String(log.find(({ grpc }) => grpc !== undefined)!["grpc"]);
}

const infer = (model: string, call: TestCall) => inferGrpc(client, model, call);
const failed = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: status.OK, details: "it was answered" }),
    (error: ServiceError) => ({ code: error.code, details: error.details }),
  );
const editOf = (steps: number, prompt = "make it winter"): TestCall => ({
  inputs: [...imagesOf([CAT]), strings("PROMPT", prompt)],
  parameters: { megapixels: 0.02, steps },
});
/** Counts a model's requests. */
const counts = async (name: string) => {
  const {
    model_stats: [stats],
  } = await called<{ model_stats: [{ inference_stats: Record<string, { count: string }> }] }>(
    client,
    "ModelStatistics",
    { name },
  );
  return {
    success: Number(stats.inference_stats["success"]!.count),
    fail: Number(stats.inference_stats["fail"]!.count),
  };
};
/** Waits until something holds. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error("it does not come to hold");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const running = async () => ((await (await fetch(`${server.url}/v1/status`)).json()) as { running: number }).running;

describe("a server says", () => {
  test("that it lives, what it is, and which models it has", async () => {
    expect(await called(client, "ServerLive")).toEqual({ live: true });
    expect(await called(client, "ServerReady")).toEqual({ ready: true });
    expect(await called(client, "ModelReady", { name: "sample", version: "1" })).toEqual({ ready: true });
    expect(await called(client, "ServerMetadata")).toMatchObject({
      name: "qedit",
      extensions: expect.arrayContaining(["statistics"]),
    });
    const { models } = await called<{ models: { name: string; state: string }[] }>(client, "RepositoryIndex");
    expect(models.map(({ name, state }) => `${name} ${state}`)).toEqual(
      [...STAGES_AND_EDIT, ...ENSEMBLES].map((name) => `${name} READY`),
    );
    expect(await called(client, "ModelMetadata", { name: "decode" })).toMatchObject({
      versions: ["1"],
      inputs: [{ name: "latent_tensor", datatype: "FP32", shape: ["1", "-1", "-1", "-1"] }, { name: "samples_record" }],
    });
    expect(await called(client, "ModelConfig", { name: "decode" })).toMatchObject({
      config: {
        max_batch_size: 0,
        input: [{ data_type: "TYPE_FP32", dims: ["1", "-1", "-1", "-1"] }, { optional: true }],
      },
    });
  });

  test("its health by grpc.health.v1", async () => {
    const Health = makeClientConstructor(healthService as never, "Health");
    const health = new Health(address, credentials.createInsecure());
    const check = (service: string) =>
      new Promise((resolve, reject) =>
        health["check"]!({ service }, (error: Error | null, answer: { status: string }) =>
          error ? reject(error) : resolve(answer.status),
        ),
      );
    for (const service of ["", "inference.GRPCInferenceService"])
      await until(async () => (await check(service)) === "SERVING");
    health.close();
  });
});

describe("inference", () => {
  test("by the stage models, chained, gives the bytes of qedit run", async () => {
    const picture = await chained(infer, [CAT], {
      encode_image: { megapixels: 0.02 },
      encode_prompt: { prompt: "make it winter" },
      sample: { steps: 2, seed: "7" },
    });
    const fields = { prompt: "make it winter", megapixels: "0.02", steps: "2", seed: "7" };
    expect(picture.equals(await ran([CAT], fields, folder))).toBe(true);
  });

  test("by the whole edit gives the bytes of qedit run, from typed contents too", async () => {
    const [image, names] = imagesOf([CAT]);
    const typed = (name: string, datatype: string, contents: object, shape = [1]) => ({
      name,
      datatype,
      shape,
      contents,
    });
    const response = await called<never>(client, "ModelInfer", {
      model_name: "qedit",
      parameters: { megapixels: { double_param: 0.02 }, negative_prompt: { string_param: "" } },
      inputs: [
        typed("IMAGE", "BYTES", { bytes_contents: [firstString(image!)] }),
        typed("IMAGE_NAMES", "BYTES", { bytes_contents: [firstString(names!)] }),
        typed("PROMPT", "BYTES", { bytes_contents: [Buffer.from("make it winter")] }),
        typed("SEED", "INT64", { int64_contents: ["-1"] }),
        typed("STEPS", "INT32", { int_contents: [2] }),
        typed("CFG", "FP32", { fp32_contents: [1.1] }),
      ],
      outputs: [{ name: "IMAGE" }],
    });
    const fields = { prompt: "make it winter", negative_prompt: "", megapixels: "0.02", steps: "2", cfg: "1.1" };
    const bytes = await ran([CAT], { ...fields, seed: String(2n ** 64n - 1n) }, folder);
    const outputs = tensorsOf(response);
    expect(outputs.map(({ name }) => name)).toEqual(["IMAGE"]);
    expect(firstString(outputs[0]!).equals(bytes)).toBe(true);
  });

  test("is counted", async () => {
    const before = await counts("encode_prompt");
    await infer("encode_prompt", { inputs: [strings("PROMPT", "make it sepia")] });
    expect((await failed(infer("encode_prompt", { inputs: [] }))).code).toBe(status.INVALID_ARGUMENT);
    expect(await counts("encode_prompt")).toEqual({ success: before.success + 1, fail: before.fail + 1 });
  });

  test("takes a tensor of 16 MB", async () => {
    // A request larger than any default: refused for what it is, after all of it was read.
    const shape = [1, 16, 512, 512];
    const latent: TestTensor = {
      name: "latent_tensor",
      datatype: "FP32",
      shape,
      bytes: Buffer.alloc(16 * 512 * 512 * 4),
    };
    const start = performance.now();
    const { code, details } = await failed(infer("decode", { inputs: [latent] }));
    expect([code, details]).toEqual([status.INVALID_ARGUMENT, expect.stringContaining("16.00 megapixels")]);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe("a stream", () => {
  /** The responses to requests on one stream, until it ends. */
  async function streamed(...requests: readonly object[]): Promise<readonly StreamResponse[]> {
    const stream = client.ModelStreamInfer();
    const responses: StreamResponse[] = [];
    stream.on("data", (response: StreamResponse) => responses.push(response));
    for (const request of requests) stream.write(request);
    stream.end();
    await once(stream, "end");
    return responses;
  }
  const value = ({ infer_response: { parameters } }: StreamResponse, name: string) => {
    const { parameter_choice: choice = "", ...rest } = parameters[name] ?? {};
    return rest[String(choice)];
  };

  test("tells of each step, then gives the outputs", async () => {
    const responses = await streamed(inferRequest("qedit", { ...editOf(3), id: "the first" }));
    expect(new Set(responses.map(({ infer_response: { id } }) => id))).toEqual(new Set(["the first"]));
    const steps = responses.filter((response) => value(response, "event") === "step");
    expect(steps.map((response) => value(response, "step"))).toEqual(["0", "1", "2", "3"]);
    const finals = responses.map((response) => value(response, "triton_final_response"));
    expect(finals).toEqual([...Array(finals.length - 1).fill(false), true]);
    const outputs = tensorsOf(responses.at(-1)!.infer_response);
    const fields = { prompt: "make it winter", megapixels: "0.02", steps: "3" };
    expect(firstString(outputs[0]!).equals(await ran([CAT], fields, folder))).toBe(true);
    // Which files of this machine are read is nobody's business.
    expect(JSON.stringify(responses.slice(0, -1))).not.toContain(".safetensors");
  });

  test("answers several requests in their order, and goes on after one that is refused", async () => {
    const prompt = (text: string, id: string) =>
      inferRequest("encode_prompt", { inputs: [strings("PROMPT", text)], id });
    const responses = await streamed(prompt("make it sepia", "a"), prompt(" ", "b"), prompt("make it winter", "c"));
    const ends = responses.filter((each) => each.error_message !== "" || each.infer_response.outputs.length > 0);
    expect(ends.map(({ infer_response: { id } }) => id)).toEqual(["a", "b", "c"]);
    expect(ends.map(({ error_message: text }) => text)).toEqual(["", expect.stringContaining("empty prompt"), ""]);
  });

  test("that is cancelled stops its job", async () => {
    const stream = client.ModelStreamInfer();
    const cancelled = once(stream, "error");
    stream.on("data", (response: StreamResponse) => {
      if (value(response, "event") === "step" && value(response, "step") === "2") stream.cancel();
    });
    stream.write(inferRequest("qedit", editOf(200)));
    const [error] = await cancelled;
    expect(error).toMatchObject({ code: status.CANCELLED });
    await until(async () => (await running()) === 0);
  });
});

describe("a call", () => {
  test("that is cancelled stops its job, be it running or waiting", async () => {
    const before = await counts("qedit");
    const calls: ClientUnaryCall[] = [];
    const answers = [0, 1].map(() =>
      failed(called(client, "ModelInfer", inferRequest("qedit", editOf(200)), { started: (call) => calls.push(call) })),
    );
    await until(async () => (await running()) === 1);
    calls[1]!.cancel();
    calls[0]!.cancel();
    for (const { code } of await Promise.all(answers)) expect(code).toBe(status.CANCELLED);
    await until(async () => (await running()) === 0);
    expect(await counts("qedit")).toEqual({ success: before.success, fail: before.fail + 2 });
  });

  test("whose deadline passes stops its stage, and the next one runs", async () => {
    const image = imagesOf([CAT]);
    const latents = await infer("encode_image", { inputs: image, parameters: { megapixels: 0.02 } });
    const cond = await infer("encode_prompt", { inputs: [...image, strings("PROMPT", "make it winter")] });
    const before = await counts("sample");
    const request = inferRequest("sample", { inputs: [...latents, ...cond], parameters: { steps: 200 } });
    const options = { deadline: Date.now() + 700 };
    expect((await failed(called(client, "ModelInfer", request, { options }))).code).toBe(status.DEADLINE_EXCEEDED);
    await infer("encode_prompt", { inputs: [strings("PROMPT", "make it sepia")] });
    expect(await counts("sample")).toEqual({ success: before.success, fail: before.fail + 1 });
  });

  test("is stopped by its own timeout", async () => {
    const request = inferRequest("qedit", editOf(200)) as { parameters: object };
    const timed = { ...request, parameters: { ...request.parameters, timeout: { int64_param: "500000" } } };
    const { code, details } = await failed(called(client, "ModelInfer", timed));
    expect([code, details]).toEqual([status.DEADLINE_EXCEEDED, "Stopped after the request's timeout of 500 ms"]);
    await until(async () => (await running()) === 0);
  });

  const tensor = (name: string, datatype: string, shape: readonly number[], bytes = Buffer.alloc(0)): TestTensor => ({
    ...{ name, datatype, shape, bytes },
  });
  const refusals: Readonly<Record<string, readonly [string, object, number, RegExp]>> = {
    "an unknown model": ["ModelMetadata", { name: "nothing" }, status.NOT_FOUND, /"nothing"/],
    "an unknown version": ["ModelReady", { name: "decode", version: "2" }, status.NOT_FOUND, /version/],
    "no name": ["ModelConfig", {}, status.NOT_FOUND, /""/],
    "files of a model": [
      "RepositoryModelLoad",
      { model_name: "decode", parameters: { "file:1/model.onnx": { bytes_param: Buffer.from("x") } } },
      status.INVALID_ARGUMENT,
      /file:1/,
    ],
    "a shape that lies": [
      "ModelInfer",
      inferRequest("decode", { inputs: [tensor("latent_tensor", "FP32", [1, 16, 1024, 1024], Buffer.alloc(64))] }),
      status.INVALID_ARGUMENT,
      /67108864 bytes, found 64/,
    ],
    "a shape beyond all numbers": [
      "ModelInfer",
      { model_name: "decode", inputs: [{ name: "latent_tensor", datatype: "FP32", shape: ["9223372036854775807"] }] },
      status.INVALID_ARGUMENT,
      /shape/,
    ],
    "fewer raw contents than inputs": [
      "ModelInfer",
      {
        model_name: "encode_prompt",
        inputs: ["PROMPT", "NEGATIVE_PROMPT"].map((name) => ({ name, datatype: "BYTES", shape: [1] })),
        raw_input_contents: [Buffer.alloc(4)],
      },
      status.INVALID_ARGUMENT,
      /1 elements.*2 inputs/,
    ],
    "contents of another datatype": [
      "ModelInfer",
      {
        model_name: "qedit",
        inputs: [{ name: "STEPS", datatype: "INT32", shape: [1], contents: { int64_contents: [2] } }],
      },
      status.INVALID_ARGUMENT,
      /int_contents.*int64_contents/,
    ],
    "half floats as contents": [
      "ModelInfer",
      {
        model_name: "decode",
        inputs: [{ name: "latent_tensor", datatype: "FP16", shape: [1, 16, 4, 4], contents: { fp32_contents: [0] } }],
      },
      status.INVALID_ARGUMENT,
      /FP16.*raw_input_contents/,
    ],
    "a parameter without a value": [
      "ModelInfer",
      { model_name: "encode_prompt", parameters: { steps: {} } },
      status.INVALID_ARGUMENT,
      /"steps" has no value/,
    ],
  };

  test.each(Object.entries(refusals))("is refused for %s", async (_, [method, request, code, details]) => {
    expect(await failed(called(client, method, request))).toEqual({ code, details: expect.stringMatching(details) });
  });
});

test("messages that are none are refused, and the server lives", async () => {
  const Raw = makeClientConstructor(
    Object.fromEntries(
      ["ModelInfer", "ModelStreamInfer"].map((name) => [
        name,
        {
          path: `/inference.GRPCInferenceService/${name}`,
          requestStream: name === "ModelStreamInfer",
          responseStream: name === "ModelStreamInfer",
          requestSerialize: (bytes: Buffer) => bytes,
          requestDeserialize: (bytes: Buffer) => bytes,
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      ]),
    ),
    "Raw",
  );
  const raw = new Raw(address, credentials.createInsecure());
  // A field whose length leads outside, a group that does not end, a varint without end, a name that is no UTF-8.
  const messages = ["0aff7f", "0b", "08ffffffffffffffffffffff", "0a01ff"].map((hex) => Buffer.from(hex, "hex"));
  for (const message of messages) {
    const unary = new Promise((resolve, reject) =>
      raw["ModelInfer"]!(message, (error: ServiceError | null, answer: unknown) =>
        error ? reject(error) : resolve(answer),
      ),
    );
    expect((await failed(unary)).code).not.toBe(status.OK);
    const stream = (raw["ModelStreamInfer"] as unknown as GrpcClient["ModelStreamInfer"]).call(raw);
    const ended = new Promise((resolve) => stream.on("status", resolve));
    stream.on("error", () => {});
    stream.on("data", () => {});
    stream.write(message);
    stream.end();
    await ended;
  }
  raw.close();
  expect(await called(client, "ServerLive")).toEqual({ live: true });
});

test.each([
  ["has the time of --grace", "20s", 40, { code: status.OK }],
  ["is stopped between two steps after --grace", "300ms", 1000, { code: status.UNAVAILABLE }],
])("a stage that runs when the server is stopped %s", async (_, grace, steps, wanted) => {
  const own = temporaryFolder();
  const stopping = await startServer({
    folder: own.path,
    args: ["--grpc", "127.0.0.1:0", "--grace", grace, "--max-steps", "1000", "--no-cache"],
  });
  const other = grpcClient(grpcAddress(stopping));
  try {
    const image = imagesOf([CAT]);
    const latents = await inferGrpc(other, "encode_image", { inputs: image, parameters: { megapixels: 0.02 } });
    const cond = await inferGrpc(other, "encode_prompt", { inputs: [...image, strings("PROMPT", "make it winter")] });
    const inputs = [...latents, ...cond];
    const sampled = (count: number) => failed(inferGrpc(other, "sample", { inputs, parameters: { steps: count } }));
    const running = sampled(steps);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // One that waits is refused.
    const waiting = sampled(2);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await stopping.stop()).toMatchObject({ code: 0 });
    expect(await running).toMatchObject(wanted);
    expect((await waiting).code).toBe(status.UNAVAILABLE);
  } finally {
    other.close();
    await stopping.stop("SIGKILL");
  }
});

test("without the key only probes are answered", async () => {
  const own = temporaryFolder();
  const env = { QEDIT_API_KEY: "a-secret" };
  const guarded = await startServer({ folder: own.path, env, args: ["--grpc", "127.0.0.1:0"] });
  const other = grpcClient(grpcAddress(guarded));
  try {
    expect(await called(other, "ServerLive")).toEqual({ live: true });
    expect((await failed(called(other, "ServerMetadata"))).code).toBe(status.UNAUTHENTICATED);
    const wrong = { authorization: "Bearer another" };
    expect((await failed(called(other, "ServerMetadata", {}, { metadata: wrong }))).code).toBe(status.UNAUTHENTICATED);
    const stream = other.ModelStreamInfer();
    const refused = once(stream, "error");
    stream.write(inferRequest("qedit", editOf(1)));
    expect((await refused)[0]).toMatchObject({ code: status.UNAUTHENTICATED });
    const metadata = { authorization: "Bearer a-secret" };
    expect(await called(other, "ServerMetadata", {}, { metadata })).toMatchObject({ name: "qedit" });
    const { code } = await guarded.stop();
    expect(code).toBe(0);
  } finally {
    other.close();
    await guarded.stop("SIGKILL");
  }
});
