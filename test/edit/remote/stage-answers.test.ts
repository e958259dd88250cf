// What servers answer is not trusted: a real qedit's answers, changed on their way.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, expectRefusal, QUICK, qedit, workFolder } from "../../cli/qedit.js";
import { type Changeable, startTampering, type TamperedCall, type Tampering } from "../../kserve/tampering-server.js";
import { startServer, type TestServer } from "../../support/server.js";

const folder = workFolder();
const RUN = ["run", CAT, "-p", "make it winter", "--model", "tiny", "--megapixels", "0.02", "--steps", "1", ...QUICK];

let server: TestServer;
let real = "";

beforeAll(async () => {
  server = await startServer({ folder: folder.at("server"), args: ["--grpc", "127.0.0.1:0"] });
  real = String(server.log.find((line) => "grpc" in line)!["grpc"]);
});
afterAll(() => server.stop("SIGKILL"));

async function withTampering(stage: string, tampering: Tampering, options: readonly string[] = []) {
  const tampered = await startTampering(real, tampering);
  try {
    return await qedit([...RUN, "--remote", `${stage}=${tampered.address}`, ...options, "-o", "out.png", "-f"], {
      cwd: folder.path,
      // What comes before the stage is computed once for all tests.
      env: { XDG_CACHE_HOME: folder.at("shared") },
    });
  } finally {
    tampered.close();
  }
}

type Change = (response: Changeable, call: TamperedCall) => void | Promise<void>;

/** Parsed JSON whose objects are changed. */
interface Json {
  [key: string]: Json;
}

const indexOf = ({ outputs }: Changeable, name: string) => outputs.findIndex((each) => each.name === name);

// Changes the JSON of a record.
function inRecord(name: string, change: (record: Json) => void): Change {
  return (response) => {
    const at = indexOf(response, name);
    const record = JSON.parse(response.raw_output_contents[at]!.subarray(4).toString()) as Json;
    change(record);
    const text = Buffer.from(JSON.stringify(record));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    response.raw_output_contents[at] = Buffer.concat([length, text]);
  };
}

const shape = (name: string, ...lengths: readonly number[]): Change => {
  return (response) => {
    response.outputs[indexOf(response, name)]!.shape = lengths.map(String);
  };
};

const value = (name: string, number: number): Change => {
  return (response) => void response.raw_output_contents[indexOf(response, name)]!.writeFloatLE(number, 8);
};

test.each<[what: string, stage: string, change: Change, message: RegExp, code?: number]>([
  ["a shape that the bytes do not have", "sample", shape("latent_tensor", 1, 16, 9, 9), /takes 5184 bytes, found/],
  [
    "a shape of huge lengths",
    "sample",
    shape("latent_tensor", 1, 16, 2 ** 30, 2 ** 30),
    /its shape is|takes \d+ bytes/,
  ],
  ["a negative length", "sample", shape("latent_tensor", 1, 16, -16, -24), /its shape is/],
  [
    "another shape of as many bytes",
    "sample",
    shape("latent_tensor", 1, 16, 24, 16),
    /latent_tensor \[1, 16, 24, 16\], wanted \[1, 16, 16, 24\]/,
  ],
  ["another rank", "encode-prompt", (r) => void r.outputs[0]!.shape.unshift("1"), /wanted \[1, tokens, hidden\]/],
  ["NaN", "sample", value("latent_tensor", Number.NaN), /tensor "latent_tensor" holds NaN at element 2/, 5],
  ["infinity", "encode-prompt", value("prompt_embeds", Number.POSITIVE_INFINITY), /holds Infinity/, 5],
  ["values that no VAE gives", "encode-image", value("latent", 1e30), /more than 1000000/, 5],
  [
    "another datatype",
    "sample",
    (r) => void (r.outputs[0]!.datatype = "INT32"),
    /tensor "latent_tensor" wanted float32, found int32/,
  ],
  ["an unknown datatype", "sample", (r) => void (r.outputs[0]!.datatype = "FP128"), /its datatype is "FP128"/],
  ["another name", "sample", (r) => void (r.outputs[0]!.name = "latents"), /lacks the tensor "latent_tensor"/],
  ["one tensor twice", "encode-image", (r) => void (r.outputs[1]!.name = "latent"), /"latent" is given twice/],
  ["a reference too few", "encode-image", without("reference_latents.0"), /0 references for 1 pictures/],
  [
    "fewer raw contents than outputs",
    "sample",
    (r) => void r.raw_output_contents.pop(),
    /raw_output_contents has 1 elements/,
  ],
  ["no record", "sample", without("samples_record"), /no "samples_record" of one byte string/],
  [
    "a record that is none",
    "sample",
    inRecord("samples_record", (r) => void Reflect.deleteProperty(r, "settings")!),
    /is not a record of qedit/,
  ],
  [
    "a record of another kind",
    "sample",
    inRecord("samples_record", (r) => Object.assign(r, { kind: "cond" })),
    /it holds cond/,
  ],
  ["a record of another seed", "sample", setting("sample", { seed: "8" }), /"seed" "8", "0" was asked for/],
  ["a record of other steps", "sample", setting("sample", { steps: 2 }), /"steps" 2, 1 was asked for/],
  ["a record of another LoRA", "sample", setting("sample", { lora_strengths: [1] }), /other LoRAs than those/],
  [
    "a record of another prompt",
    "sample",
    setting("encode_prompt", { prompt: "x" }),
    /of other inputs than those that were sent/,
  ],
  [
    "a record of other pictures",
    "encode-image",
    inRecord("latents_record", (r) => Object.assign(r, { inputs: { "image.1": "0".repeat(64) } })),
    /its record is of other pictures/,
  ],
  [
    "statistics that are none",
    "encode-image",
    inRecord("latents_record", (r) => Object.assign(r["settings"]!, { latent_statistics: { mean: [0], std: [0] } })),
    /latent_statistics are no mean and std/,
  ],
  [
    "a target outside picture 1",
    "encode-image",
    inRecord("latents_record", (r) =>
      Object.assign(r["sizes"]!["target"]!, { box: { x: 0, y: 0, width: 9999, height: 1 } }),
    ),
    /a target without a box in picture 1/,
  ],
  [
    "another model's weights",
    "sample",
    weights({ transformer: "0".repeat(64) }),
    /computed with other weights: wanted tiny_edit_fp8_e4m3fn\.safetensors .* as transformer, found tiny_edit/,
    3,
  ],
  [
    "weights of a stage before",
    "sample",
    weights({ vae: "0".repeat(64) }),
    /of other inputs than those that were sent/,
  ],
  [
    "another VAE than the one that decodes here",
    "encode-image",
    inRecord("latents_record", (r) => Object.assign(r["weights"]!, { vae: "0".repeat(64) })),
    /computed with other weights: wanted tiny_vae/,
    3,
  ],
  [
    "the hash of another file",
    "sample",
    (r) => void (r.parameters["weights_sha256"] = { string_param: JSON.stringify({ transformer: "0".repeat(64) }) }),
    /computed with other weights/,
    3,
  ],
  ["a picture of another size", "decode", picture(64, 64), /a picture of 64x64, wanted 192x128/],
  [
    "a picture that is none",
    "decode",
    (r) => void (r.raw_output_contents[0] = Buffer.from("\u0003\0\0\0abc")),
    /Cannot use the answer/,
  ],
])("refused: %s", async (_, stage, change, message, code = 1) => {
  const ended = await withTampering(stage, {
    async answer(response, call) {
      await change(response, call);
      return true;
    },
  });
  expectRefusal(ended, { code, message });
  expect(ended.stderr).toMatch(/grpc:\/\/127\.0\.0\.1:\d+/);
});

describe("a server", () => {
  test("that reports progress without end is left", async () => {
    const endless: Tampering = {
      instead({ stream }) {
        const event = { event: { string_param: "activity" }, text: { string_param: "x" } };
        const write = (): void => {
          while (!stream.cancelled && stream.write({ infer_response: { parameters: event } }));
        };
        stream.on("drain", write);
        write();
      },
    };
    const ended = await withTampering("sample", endless, ["-q"]);
    expectRefusal(ended, { code: 1, message: /more than 20000 messages without an answer/ });
  });

  test("that says nothing is left after --remote-timeout, with a hint", async () => {
    const start = performance.now();
    const ended = await withTampering("encode-image", { instead() {} }, ["--remote-timeout", "1s"]);
    expectRefusal(ended, {
      code: 1,
      message: /Gave up encode_image on the server at .*: no answer within 1 s/,
      hint: /--remote-timeout 30m/,
    });
    expect(performance.now() - start).toBeLessThan(8_000);
  });

  test("that ends the stream without an answer is lost", async () => {
    const ended = await withTampering("sample", { instead: ({ stream }) => void stream.end() });
    expectRefusal(ended, { code: 1, message: /Cannot reach the server at .*: it ended the stream without an answer/ });
  });

  test("of another kind is refused by the inputs of its model", async () => {
    const inputs = [{ name: "noise\u001b[31m", datatype: "BF16", shape: ["1", "-1", "64"] }];
    const foreign: Tampering = { metadata: (metadata) => ({ ...metadata, platform: "onnxruntime_onnx", inputs }) };
    const message =
      /Cannot use the model "sample" of the server at .*: it is not of qedit's form, it takes noise\[31m BF16 \[1, -1, 64\]/;
    expectRefusal(await withTampering("sample", foreign), { code: 1, message });
  });

  test.each([
    ["INVALID_ARGUMENT", 2, /does not run sample: as told/],
    ["UNAUTHENTICATED", 1, /refuses the key/],
    ["PERMISSION_DENIED", 1, /refuses the key/],
    ["INTERNAL", 1, /failed in sample: as told/],
    ["UNKNOWN", 1, /failed in sample: as told/],
  ] as const)("that says %s ends the edit, and the next one is not asked", async (refusal, code, message) => {
    const next = await startTampering(real, {});
    const ended = await withTampering("sample", { refusal }, ["--remote", `sample=${next.address}`]);
    next.close();
    expectRefusal(ended, { code, message });
    expect(next.requests).toEqual([]);
  });

  test.each(["UNAVAILABLE", "RESOURCE_EXHAUSTED"] as const)("that says %s is passed over", async (refusal) => {
    const next = await startTampering(real, {});
    const ended = await withTampering("sample", { refusal }, ["--remote", `sample=${next.address}`]);
    next.close();
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toMatch(/does not run sample: as told; the next server is asked/);
    expect(next.requests).toHaveLength(1);
  });

  test("whose texts hold control characters cannot write to the terminal", async () => {
    const event = { event: { string_param: "note" }, text: { string_param: "\u001b]0;owned\u0007 hello" } };
    const ended = await withTampering("sample", {
      answer(_, { stream }) {
        stream.write({ infer_response: { parameters: event } });
        return true;
      },
    });
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toContain("]0;owned hello");
    expect(ended.stderr).not.toContain("\u001b]");
  });

  test("that does not say its weights causes one warning, and nothing of it is kept", async () => {
    const silent: Tampering = {
      answer: (response) => {
        inRecord("cond_record", (record) => Object.assign(record, { weights: {} }))(response, undefined as never);
        delete response.parameters["weights_sha256"];
        return true;
      },
    };
    const tampered = await startTampering(real, silent);
    const cache = { XDG_CACHE_HOME: folder.at("cache") };
    const args = [
      ...RUN,
      "--seeds",
      "1,2",
      "-v",
      "--remote",
      `encode-prompt=${tampered.address}`,
      "-o",
      "out.png",
      "-f",
    ];
    for (const asked of [1, 2]) {
      const ended = await qedit(args, { cwd: folder.path, env: cache });
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr.match(/with the weights of this model is not known: text_encoder/g)).toHaveLength(1);
      // Once for all seeds of a run.
      expect(tampered.requests).toHaveLength(asked);
    }
    tampered.close();
  });

  test("whose weights are known to be right is asked once, and its result kept for later runs", async () => {
    const tampered = await startTampering(real, {});
    const cache = { XDG_CACHE_HOME: folder.at("kept") };
    const args = [...RUN, "--remote", `encode-prompt=${tampered.address}`, "-o", "out.png", "-f"];
    for (const _ of [1, 2]) expect((await qedit(args, { cwd: folder.path, env: cache })).code).toBe(0);
    expect(tampered.requests).toHaveLength(1);
    tampered.close();
  });
});

function without(name: string): Change {
  return (response) => {
    const at = indexOf(response, name);
    response.outputs.splice(at, 1);
    response.raw_output_contents.splice(at, 1);
  };
}

function setting(stage: string, changed: object): Change {
  return inRecord("samples_record", (record) => Object.assign(record["settings"]![stage]!, changed));
}

function weights(changed: object): Change {
  return inRecord("samples_record", (record) => Object.assign(record["weights"]!, changed));
}

function picture(width: number, height: number): Change {
  return async (response) => {
    const { encodePicture } = await import("../../../src/image/io/write.js");
    const data = Uint8Array.from({ length: width * height * 3 }, (_, index) => (index * 31) % 251);
    const bytes = await encodePicture({ width, height, data }, { format: "png" });
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    response.raw_output_contents[indexOf(response, "IMAGE")] = Buffer.concat([length, bytes]);
  };
}
