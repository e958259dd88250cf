// KServe V2 over HTTP on a real server process: every route, the stage models chained, the whole edit, refusals.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { chained, ENSEMBLES, imagesOf, STAGES_AND_EDIT } from "./edits.js";
import { firstString, inferHttp, strings, type TestCall, type TestTensor } from "./http-client.js";

const folder = temporaryFolder();

let server: TestServer;
beforeAll(async () => {
  server = await startServer({
    folder: folder.path,
    args: ["--no-cache", "--max-megapixels", "0.5", "--max-body", "24M"],
  });
});
afterAll(() => server.stop("SIGKILL"));

const infer = (model: string, call: TestCall) => inferHttp(server.url, model, call);
const ask = async (path: string, options: RequestInit = {}) => {
  const response = await fetch(`${server.url}${path}`, options);
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) };
};
const post = (path: string, body: unknown = {}) =>
  ask(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });

describe("a server says", () => {
  test("that it lives and is ready, with nothing in the body", async () => {
    for (const path of [
      "/v2/health/live",
      "/v2/health/ready",
      "/v2/models/sample/ready",
      "/v2/models/sample/versions/1/ready",
    ]) {
      const { status, text } = await ask(path);
      expect([status, text], path).toEqual([200, ""]);
    }
  });

  test("what it is, and which models it has", async () => {
    expect((await ask("/v2")).json()).toMatchObject({
      name: "qedit",
      extensions: expect.arrayContaining(["binary_tensor_data"]),
    });
    const index = (await post("/v2/repository/index")).json();
    expect(index.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)).toEqual(
      [...STAGES_AND_EDIT, ...ENSEMBLES].map((name) => `${name} READY`),
    );
    const { inputs, outputs } = (await ask("/v2/models/decode/versions/1")).json();
    expect(inputs[0]).toEqual({ name: "latent_tensor", datatype: "FP32", shape: [1, -1, -1, -1] });
    expect(outputs.map(({ name }: { name: string }) => name)).toEqual(["IMAGE", "RECIPE"]);
    expect((await ask("/v2/models/qedit/config")).json()).toMatchObject({
      max_batch_size: 0,
      input: expect.arrayContaining([{ name: "SEED", data_type: "TYPE_INT64", dims: [1], optional: true }]),
    });
  });

  test("how often models were asked, and for how long", async () => {
    const stats = async () => (await ask("/v2/models/encode_prompt/stats")).json().model_stats[0];
    const before = await stats();
    await infer("encode_prompt", { inputs: [strings("PROMPT", "make it sepia")] });
    await expect(infer("encode_prompt", { inputs: [] })).rejects.toThrow("400");
    const { inference_stats: after, inference_count: count } = await stats();
    expect(count).toBe(before.inference_count + 1);
    expect(after.success.count).toBe(before.inference_stats.success.count + 1);
    expect(after.fail.count).toBe(before.inference_stats.fail.count + 1);
    expect(after.compute_infer.ns).toBeGreaterThan(before.inference_stats.compute_infer.ns);
    const parts = ["queue", "compute_input", "compute_infer", "compute_output"].map((part) => after[part].ns);
    expect(parts.reduce((sum, ns) => sum + ns, 0)).toBeCloseTo(after.success.ns, -4);
    expect((await ask("/v2/models/stats")).json().model_stats).toHaveLength(11);
  });

  test("the file of its gRPC interface", async () => {
    expect((await ask("/kserve.proto")).text).toContain("service GRPCInferenceService");
  });
});

describe("the stage models, chained, give the bytes of qedit run", () => {
  test("with one picture", async () => {
    const picture = await chained(infer, [CAT], {
      encode_image: { megapixels: 0.02 },
      encode_prompt: { prompt: "make it black and white" },
      sample: { steps: 2, seed: "7" },
    });
    const fields = { prompt: "make it black and white", megapixels: "0.02", steps: "2", seed: "7" };
    expect(picture.equals(await ran([CAT], fields, folder))).toBe(true);
  });

  test("with two pictures, guidance and the size of the first", async () => {
    const picture = await chained(infer, [ROCKET, CAT], {
      encode_image: { megapixels: 0.02 },
      encode_prompt: { prompt: "the colours of picture 2", negative_prompt: "" },
      sample: { steps: 2, cfg: 1.1 },
      decode: { keep_size: true, format: "jpeg", jpeg_quality: 80 },
    });
    const fields = {
      prompt: "the colours of picture 2",
      negative_prompt: "",
      megapixels: "0.02",
      steps: "2",
      cfg: "1.1",
    };
    const decoded = { keep_size: "true", format: "jpeg", jpeg_quality: "80" };
    expect(picture.equals(await ran([ROCKET, CAT], { ...fields, ...decoded }, folder))).toBe(true);
  });
});

describe("the whole edit is one model", () => {
  const settings = (): readonly TestTensor[] => {
    const seed = Buffer.alloc(8);
    seed.writeBigInt64LE(-1n);
    const [steps, cfg] = [Buffer.alloc(4), Buffer.alloc(4)];
    steps.writeInt32LE(2);
    cfg.writeFloatLE(1.1);
    return [
      { name: "SEED", datatype: "INT64", shape: [1], bytes: seed },
      { name: "STEPS", datatype: "INT32", shape: [1], bytes: steps },
      { name: "CFG", datatype: "FP32", shape: [1], bytes: cfg },
    ];
  };

  test("whose picture has the bytes of qedit run, and whose recipe is the picture's", async () => {
    const inputs = [
      ...imagesOf([CAT]),
      strings("PROMPT", "make it sepia"),
      strings("NEGATIVE_PROMPT", ""),
      ...settings(),
    ];
    const [image, recipe] = await infer("qedit", { inputs, parameters: { megapixels: 0.02 } });
    const fields = { prompt: "make it sepia", negative_prompt: "", megapixels: "0.02", steps: "2", cfg: "1.1" };
    // A signed -1 is the largest seed of 64 bits.
    const bytes = await ran([CAT], { ...fields, seed: String(2n ** 64n - 1n) }, folder);
    expect(firstString(image!).equals(bytes)).toBe(true);
    const text = firstString(recipe!).toString();
    expect(JSON.parse(text)).toMatchObject({ settings: { sample: { cfg: 1.1 } }, names: { "image.1": "cat.jpg" } });
  });

  test("in JSON alone, with pictures in base64, and the request's id in the answer", async () => {
    const image = { name: "IMAGE", shape: [1], datatype: "BYTES", parameters: { content_type: "base64" } };
    const { status, headers, json } = await post("/v2/models/qedit/versions/1/infer", {
      id: "a request",
      inputs: [
        { ...image, data: [readFileSync(CAT).toString("base64")] },
        { name: "PROMPT", shape: [1], datatype: "BYTES", data: ["make it sepia"] },
        { name: "SIZE", shape: [2], datatype: "INT32", data: [96, 64] },
      ],
      outputs: [{ name: "IMAGE" }],
      parameters: { steps: 1 },
    });
    expect([status, headers.get("content-type")]).toEqual([200, "application/json"]);
    const { id, model_version, outputs, parameters } = json();
    expect([id, model_version]).toEqual(["a request", "1"]);
    expect(parameters).toMatchObject({ type: "image/png", width: 96, height: 64 });
    expect(outputs).toHaveLength(1);
    expect(Buffer.from(outputs[0].data[0], "base64").subarray(1, 4).toString()).toBe("PNG");
  });

  test("with a mask", async () => {
    const mask = strings("MASK", readFileSync(CAT));
    const inputs = [...imagesOf([CAT]), strings("PROMPT", "make it sepia"), mask, strings("MASK_NAME", "cat.jpg")];
    const [image] = await infer("qedit", { inputs, parameters: { megapixels: 0.02, steps: 2, paste_back: true } });
    const fields = { prompt: "make it sepia", megapixels: "0.02", steps: "2", paste_back: "true", mask: CAT };
    expect(firstString(image!).equals(await ran([CAT], fields, folder))).toBe(true);
  });
});

describe("a body", () => {
  test("that is a picture alone is one input", async () => {
    const { status, headers, text } = await ask("/v2/models/encode_image/infer", {
      method: "POST",
      body: readFileSync(CAT),
      headers: { "inference-header-content-length": "0" },
    });
    expect(status).toBe(200);
    const json = JSON.parse(text.slice(0, Number(headers.get("inference-header-content-length"))));
    expect(json.outputs.map(({ name }: { name: string }) => name)).toEqual([
      "latent",
      "reference_latents.0",
      "latents_record",
    ]);
  });

  const gzipped = (bytes: Uint8Array) =>
    ask("/v2/models/encode_prompt/infer", {
      method: "POST",
      body: gzipSync(bytes) as Uint8Array<ArrayBuffer>,
      headers: { "content-encoding": "gzip" },
    });

  test("may be compressed", async () => {
    const inputs = [{ name: "PROMPT", shape: [1], datatype: "BYTES", data: ["make it sepia"] }];
    expect((await gzipped(Buffer.from(JSON.stringify({ inputs })))).status).toBe(200);
  });

  test("that grows beyond the limit when it is decompressed is refused", async () => {
    expect(await gzipped(Buffer.alloc(64 * 1024 ** 2, " "))).toMatchObject({ status: 413 });
  });
});

describe("refused with a text", () => {
  const refusals: Readonly<Record<string, readonly [string, RequestInit, number, RegExp]>> = {
    "an unknown model": ["/v2/models/nothing", {}, 404, /"nothing".*encode_image/],
    "an unknown version": ["/v2/models/decode/versions/2/config", {}, 404, /version/],
    "an unknown path": ["/v2/nothing", {}, 404, /path/],
    "another method": ["/v2/models/decode/infer", {}, 405, /GET/],
    "memory that is shared": ["/v2/systemsharedmemory/status", {}, 501, /not implemented/],
    "no JSON": ["/v2/models/decode/infer", { method: "POST", body: "{" }, 400, /JSON/],
    "files of a model": [
      "/v2/repository/models/decode/load",
      { method: "POST", body: '{"parameters": {"config": "{}"}}' },
      400,
      /"config"/,
    ],
    "a compression that is not known": [
      "/v2/models/decode/infer",
      { method: "POST", body: "x", headers: { "content-encoding": "br" } },
      415,
      /compressed/,
    ],
    "what is not compressed though it says so": [
      "/v2/models/decode/infer",
      { method: "POST", body: "x", headers: { "content-encoding": "gzip" } },
      400,
      /gzip/,
    ],
  };

  test.each(Object.entries(refusals))("%s", async (_, [path, options, status, message]) => {
    const answer = await ask(path, options);
    expect(answer.status).toBe(status);
    expect(Object.keys(answer.json())).toEqual(["error"]);
    expect(answer.json().error).toMatch(message);
    if (status === 405) expect(answer.headers.get("allow")).toBe("POST");
  });

  const latent = (shape: readonly number[], name = "latent_tensor", value = 0): TestTensor => ({
    ...{ name, datatype: "FP32", shape },
    bytes: Buffer.from(new Float32Array(shape.reduce((count, length) => count * length, 1)).fill(value).buffer),
  });
  const record = (sizes: object) =>
    strings(
      "samples_record",
      JSON.stringify({ kind: "samples", version: 1, settings: {}, sizes, inputs: {}, weights: {} }),
    );
  const sized = (source: object, box: object) => ({ target: { box }, images: [{ source }] });
  const calls: Readonly<Record<string, readonly [string, () => TestCall, RegExp]>> = {
    "an input that is missing": ["decode", () => ({ inputs: [] }), /lacks the input "latent_tensor"/],
    "an input that no model takes": [
      "decode",
      () => ({ inputs: [strings("IMAGE", "x")] }),
      /"IMAGE" is no input of decode/,
    ],
    "a shape of another rank": [
      "decode",
      () => ({ inputs: [latent([16, 4, 4])] }),
      /"latent_tensor": wanted \[1, -1, -1, -1\]/,
    ],
    "another datatype": ["decode", () => ({ inputs: [strings("latent_tensor", "x")] }), /wanted FP32, found BYTES/],
    "channels of another VAE": ["decode", () => ({ inputs: [latent([1, 4, 4, 4])] }), /4 channels/],
    "values that are no numbers": [
      "decode",
      () => ({ inputs: [latent([1, 16, 4, 4], "latent_tensor", Number.NaN)] }),
      /NaN/,
    ],
    "more pixels than the server allows": [
      "decode",
      () => ({ inputs: [latent([1, 16, 100, 100])] }),
      /at most 0.5 are allowed/,
    ],
    "a record that is none": [
      "decode",
      () => ({ inputs: [latent([1, 16, 4, 4]), strings("samples_record", "{}")] }),
      /record/,
    ],
    "a record that is deep": [
      "decode",
      () => ({ inputs: [latent([1, 16, 4, 4]), strings("samples_record", "[".repeat(1000))] }),
      /"samples_record".*nests/,
    ],
    "a record with a size beyond all memory": [
      "decode",
      () => ({
        inputs: [
          latent([1, 16, 4, 4]),
          record(sized({ width: 1e6, height: 1e6 }, { x: 0, y: 0, width: 1, height: 1 })),
        ],
        parameters: { keep_size: true },
      }),
      /"samples_record".*source/,
    ],
    "a record with a place outside its picture": [
      "decode",
      () => ({
        inputs: [
          latent([1, 16, 4, 4]),
          record(sized({ width: 32, height: 32 }, { x: 9, y: 0, width: 32, height: 32 })),
        ],
      }),
      /"samples_record".*box/,
    ],
    "a parameter of another stage": [
      "encode_image",
      () => ({ inputs: imagesOf([CAT]), parameters: { steps: 4 } }),
      /"steps" is no parameter of encode-image/,
    ],
    "a parameter that is a path": [
      "encode_image",
      () => ({ inputs: imagesOf([CAT]), parameters: { vae: "/etc/passwd" } }),
      /"vae".*path/,
    ],
    "a model that is a path": [
      "qedit",
      () => ({ inputs: [...imagesOf([CAT]), strings("PROMPT", "x")], parameters: { model: "../x" } }),
      /"model".*path/,
    ],
    "a parameter that is given twice": [
      "encode_prompt",
      () => ({ inputs: [strings("PROMPT", "x")], parameters: { prompt: "y" } }),
      /"PROMPT".*as well/,
    ],
    "an empty prompt": ["encode_prompt", () => ({ inputs: [strings("PROMPT", " ")] }), /empty prompt/],
    "an output that no model has": [
      "encode_prompt",
      () => ({ inputs: [strings("PROMPT", "x")], outputs: ["y"] }),
      /"y" is no output/,
    ],
    "an output that was not made": [
      "encode_prompt",
      () => ({ inputs: [strings("PROMPT", "make it sepia")], outputs: ["negative_prompt_embeds"] }),
      /made no "negative_prompt_embeds"/,
    ],
    "names that are not as many as pictures": [
      "encode_image",
      () => ({ inputs: [imagesOf([CAT])[0]!, strings("IMAGE_NAMES", "a", "b")] }),
      /"IMAGE_NAMES".*1 names.*2/,
    ],
    "a picture that is none": ["encode_image", () => ({ inputs: [strings("IMAGE", "x")] }), /image-1/],
    "guidance without a negative prompt": [
      "sample",
      () => ({
        inputs: [latent([1, 16, 4, 4], "latent"), latent([1, 3, 48], "prompt_embeds")],
        parameters: { cfg: 4 },
      }),
      /cfg 4/,
    ],
    "references with a gap": [
      "sample",
      () => ({
        inputs: [
          latent([1, 16, 4, 4], "latent"),
          latent([1, 16, 4, 4], "reference_latents.1"),
          latent([1, 3, 48], "prompt_embeds"),
        ],
      }),
      /reference_latents.0/,
    ],
  };

  test.each(Object.entries(calls))("%s", async (_, [model, call, message]) => {
    const error: Error = await infer(model, call()).then(
      () => new Error("it was not refused"),
      (refusal) => refusal,
    );
    expect(error.message).toMatch(/^400: /);
    expect(JSON.parse(error.message.slice(5)).error).toMatch(message);
  });

  test("more bytes than a body may have", async () => {
    const body = Buffer.alloc(25 * 1024 ** 2);
    expect(await ask("/v2/models/decode/infer", { method: "POST", body })).toMatchObject({ status: 413 });
  });
});

test("latents of another tool, without a record and with half precision, are taken", async () => {
  const bytes = Buffer.alloc(16 * 8 * 8 * 2);
  for (let index = 0; index < bytes.length; index += 2) bytes.writeUInt16LE(0x3c00 + ((index * 37) % 512), index);
  const latent = { name: "latent_tensor", datatype: "FP16", shape: [1, 16, 1, 8, 8], bytes };
  const [image] = await infer("decode", { inputs: [latent] });
  expect(firstString(image!).subarray(1, 4).toString()).toBe("PNG");
});

test("networks of a model are opened and closed on request", async () => {
  const networks = async () =>
    (await ask("/v1/status")).json().sessions.map(({ network }: { network: string }) => network);
  expect((await post("/v2/repository/models/qedit/load", { parameters: { model: "tiny" } })).status).toBe(200);
  expect(await networks()).toEqual(expect.arrayContaining(["transformer", "vae-decoder", "language-model"]));
  expect((await post("/v2/repository/models/sample/unload", { parameters: { unload_dependents: false } })).status).toBe(
    200,
  );
  expect(await networks()).not.toContain("transformer");
  expect(await networks()).toContain("vae-decoder");
  expect((await post("/v2/repository/models/qedit/unload")).status).toBe(200);
  expect(await networks()).toEqual([]);
});

test("a client that goes away stops its stage", async () => {
  const image = imagesOf([CAT]);
  const latents = await infer("encode_image", { inputs: image, parameters: { megapixels: 0.02 } });
  const cond = await infer("encode_prompt", { inputs: [...image, strings("PROMPT", "make it winter")] });
  const gone = new AbortController();
  const json = {
    inputs: [...latents, ...cond].map(({ bytes, ...head }) => ({
      ...head,
      parameters: { binary_data_size: bytes.length },
    })),
  };
  const head = Buffer.from(JSON.stringify({ ...json, parameters: { steps: 200 } }));
  const body = Buffer.concat([head, ...[...latents, ...cond].map(({ bytes }) => bytes)]);
  const options = { method: "POST", body, headers: { "inference-header-content-length": String(head.length) } };
  const answer = fetch(`${server.url}/v2/models/sample/infer`, { ...options, signal: gone.signal });
  const failures = async () => (await ask("/v2/models/sample/stats")).json().model_stats[0].inference_stats.fail.count;
  const before = await failures();
  setTimeout(() => gone.abort(), 500);
  await expect(answer).rejects.toThrow();
  // The next stage gets its turn after the step that runs.
  const start = performance.now();
  await infer("encode_prompt", { inputs: [strings("PROMPT", "make it sepia")] });
  expect(performance.now() - start).toBeLessThan(3000);
  expect(await failures()).toBe(before + 1);
});
