// Edits by the tensors of an exported folder on real servers, against `qedit run`: pictures, guidance, LoRAs, the queue and its ends.
import { once } from "node:events";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { fixture } from "../../support/golden.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { imagesOf } from "./edits.js";
import { ensembleOf, ensembleTensors, ranPixels, sentTensors, type WholeEdit } from "./ensemble-tensors.js";
import { called, type GrpcClient, grpcClient, inferGrpc, inferRequest, type StreamResponse } from "./grpc-client.js";
import { firstString, inferHttp, strings } from "./http-client.js";

const folder = temporaryFolder();
const ASTRONAUT = fixture("images/astronaut.jpg");

async function opened(name: string, start: { args?: readonly string[]; env?: Readonly<Record<string, string>> }) {
  const { args = ["--no-cache"], env = {} } = start;
  const server = await startServer({
    folder: folder.at(name),
    args: ["--grpc", "127.0.0.1:0", ...args],
    env,
  });
  return { server, client: grpcClient(String(server.log.find(({ grpc }) => grpc !== undefined)!["grpc"])) };
}

let server: TestServer;
let client: GrpcClient;
beforeAll(async () => {
  ({ server, client } = await opened("plain", {}));
});
afterAll(async () => {
  client.close();
  await server.stop("SIGKILL");
});

const inputsOf = async (edit: WholeEdit) => ({ inputs: sentTensors(await ensembleTensors(edit)) });

describe("an edit by tensors has the pixels of qedit run", () => {
  test.each<[string, WholeEdit]>([
    ["of one picture", { paths: [ROCKET] }],
    ["of two pictures", { paths: [CAT, ROCKET], prompt: "put the rocket behind the cat" }],
    ["of three pictures of unlike sizes", { paths: [ROCKET, CAT, ASTRONAUT], megapixels: 0.03 }],
    ["with guidance", { paths: [CAT], negative: "blurry" }],
    ["with guidance and three pictures", { paths: [ASTRONAUT, ROCKET, CAT], negative: "", cfg: 4 }],
    ["with a scale of 1, which uses no negative prompt", { paths: [CAT], negative: "blurry", cfg: 1 }],
    ["in one step", { paths: [CAT], steps: 1 }],
    ["in seven steps, larger", { paths: [CAT], steps: 7, megapixels: 0.06, seed: 123456789 }],
    ["with words of other scripts and typed placeholders", { paths: [CAT], prompt: "日本 <|image_pad|> \n{prompt}" }],
  ])("%s", async (_, edit) => {
    const model = ensembleOf(edit);
    const call = await inputsOf(edit);
    const wanted = await ranPixels(edit, folder, edit.cfg === 1 ? { force: "true" } : {});
    for (const [image] of [await inferHttp(server.url, model, call), await inferGrpc(client, model, call)])
      expect([image!.shape, image!.bytes.equals(wanted.bytes)]).toEqual([wanted.shape, true]);
  });

  test("with the LoRA that the server was started with, from the cache too", async () => {
    const edit = { paths: [CAT] };
    const started = await opened("lora", {
      args: [],
      env: { QEDIT_LORA: "lightning-4steps:0.8", QEDIT_SAMPLER: "heun" },
    });
    const call = await inputsOf(edit);
    const wanted = await ranPixels(edit, folder, { lora: "lightning-4steps:0.8" });
    const plain = await inferHttp(server.url, "qedit_1", call);
    for (let times = 0; times < 2; times += 1) {
      const [image] = await inferHttp(started.server.url, "qedit_1", call);
      expect(image!.bytes.equals(wanted.bytes)).toBe(true);
      expect(image!.bytes.equals(plain[0]!.bytes)).toBe(false);
    }
    started.client.close();
    await started.server.stop("SIGKILL");
  });

  test("in a queue with others, whatever their kind", async () => {
    const edits: readonly WholeEdit[] = [
      { paths: [CAT] },
      { paths: [CAT, ROCKET] },
      { paths: [CAT], seed: 8 },
      { paths: [ROCKET], negative: "blurry" },
    ];
    const files = { inputs: [...imagesOf([ROCKET]), strings("PROMPT", "make it sepia")] };
    const whole = inferHttp(server.url, "qedit", { ...files, parameters: { megapixels: 0.02, steps: 2 } });
    const answers = await Promise.all(
      edits.map(async (edit) => inferHttp(server.url, ensembleOf(edit), await inputsOf(edit))),
    );
    const fields = { prompt: "make it sepia", megapixels: "0.02", steps: "2" };
    expect(firstString((await whole)[0]!).equals(await ran([ROCKET], fields, folder))).toBe(true);
    for (const [index, edit] of edits.entries())
      expect(answers[index]![0]!.bytes.equals((await ranPixels(edit, folder)).bytes)).toBe(true);
  });
});

describe("an edit by tensors", () => {
  test("tells of its steps on a stream, and ends with its pixels", async () => {
    const edit = { paths: [CAT], steps: 3 };
    const stream = client.ModelStreamInfer();
    const responses: StreamResponse[] = [];
    stream.on("data", (response: StreamResponse) => responses.push(response));
    stream.write(inferRequest("qedit_1", { ...(await inputsOf(edit)), id: "mine" }));
    stream.end();
    await once(stream, "end");
    const values = responses.map(({ infer_response: { parameters } }) => parameters);
    const steps = values.filter((each) => each["event"]?.["string_param"] === "step");
    expect(steps.map((each) => Number(each["step"]?.["int64_param"]))).toEqual([0, 1, 2, 3]);
    const last = responses.at(-1)!.infer_response;
    expect(last.raw_output_contents[0]!.equals((await ranPixels(edit, folder)).bytes)).toBe(true);
  });

  test("stops at its deadline, and leaves the server free", async () => {
    const request = inferRequest("qedit_1", await inputsOf({ paths: [CAT], steps: 199 }));
    const start = performance.now();
    const late = called(client, "ModelInfer", request, { options: { deadline: Date.now() + 700 } });
    await expect(late).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    await inferHttp(server.url, "qedit_1", await inputsOf({ paths: [CAT], steps: 1 }));
    expect(performance.now() - start).toBeLessThan(8000);
  });

  test("is cancelled by its timeout of microseconds", async () => {
    const call = { ...(await inputsOf({ paths: [CAT], steps: 199 })), parameters: { timeout: 500_000 } };
    await expect(inferHttp(server.url, "qedit_1", call)).rejects.toThrow(/timeout of 500 ms/);
  });

  test("waits in the one queue of the server, which refuses more than it holds", async () => {
    const { server: small, client: other } = await opened("small", { args: ["--max-queue", "2"] });
    const long = await inputsOf({ paths: [CAT], steps: 120 });
    const first = inferHttp(small.url, "qedit_1", long);
    const second = inferGrpc(other, "qedit_1", long);
    first.catch(() => {});
    second.catch(() => {});
    await expect
      .poll(async () => (await (await fetch(`${small.url}/v1/status`)).json()) as object, { timeout: 10_000 })
      .toMatchObject({ running: 1, queued: 1 });
    await expect(inferHttp(small.url, "qedit_1", long)).rejects.toThrow(/^429: .*The queue is full/);
    other.close();
    await small.stop("SIGKILL");
  });

  test("needs the key of the server", async () => {
    const { server: locked, client: other } = await opened("locked", { env: { QEDIT_API_KEY: "a-key" } });
    const call = await inputsOf({ paths: [CAT] });
    await expect(inferHttp(locked.url, "qedit_1", call)).rejects.toThrow(/^401: /);
    await expect(inferGrpc(other, "qedit_1", call)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
    other.close();
    await locked.stop("SIGKILL");
  });
});

test("a server whose model is not there says so of these models alone", async () => {
  const { server: bare, client: other } = await opened("bare", { args: ["--model", "qwen-image-edit-2509"] });
  const index = (await (await fetch(`${bare.url}/v2/repository/index`, { method: "POST" })).json()) as {
    name: string;
    state: string;
    reason: string;
  }[];
  const states = new Map(index.map((each) => [each.name, each]));
  expect(states.get("qedit")!.state).toBe("READY");
  expect(states.get("qedit_1")).toMatchObject({
    state: "UNAVAILABLE",
    reason: expect.stringContaining("qwen-image-edit-2509"),
  });
  expect((await fetch(`${bare.url}/v2/models/qedit_1/ready`)).status).toBe(503);
  expect((await fetch(`${bare.url}/v2/models/qedit_1`)).status).toBe(404);
  expect(await called(other, "ModelReady", { name: "qedit_1" })).toEqual({ ready: false });
  const call = await inputsOf({ paths: [CAT] });
  await expect(inferHttp(bare.url, "qedit_1", call)).rejects.toThrow(/^404: /);
  await expect(inferGrpc(other, "qedit_1", call)).rejects.toMatchObject({ code: status.NOT_FOUND });
  other.close();
  await bare.stop("SIGKILL");
});
