// Servers of exported models that lie, lack something, are busy, late or gone; and what exported models cannot do, refused before anything is sent.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, expectRefusal, QUICK, qedit, ROCKET, spawned, workFolder } from "../../cli/qedit.js";
import { type ExportedServer, type ServedOutput, type Serving, serveExported } from "../../support/exported-server.js";
import { fixture } from "../../support/golden.js";

const folder = workFolder();
const EDIT = ["-p", "make it winter", "--model", "tiny", "--megapixels", "0.01", "--steps", "1", "-f"];
const STAGES = ["encode-image", "encode-prompt", "sample", "decode"];
const DEAD = "grpc://127.0.0.1:9";

let server: ExportedServer;
beforeAll(async () => {
  const args = ["export", "triton", "repository", "--model", "tiny", "--device", "cpu", "--images", "1", "-q"];
  expect((await qedit(args, { cwd: folder.path })).code).toBe(0);
  server = await serveExported(folder.at("repository"));
  await qedit(["run", CAT, ...EDIT, ...QUICK, "-o", "here.png"], { cwd: folder.path });
});
afterAll(() => server.close());

const all = (address: string) => STAGES.map((stage) => `${stage}=${address}`).join(",");

function run(remote: string, options: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
  const isAll = remote.startsWith("qedit=") || STAGES.every((stage) => remote.includes(`${stage}=`));
  const args = ["run", CAT, ...EDIT, ...options, ...(isAll ? [] : QUICK), "--remote", remote, "-o", "there.png"];
  return qedit(args, { cwd: folder.path, env: { XDG_CACHE_HOME: folder.at("shared"), ...env } });
}

/** Runs something beside a server that serves the exported folder in its own way. */
async function withServer<T>(serving: Serving, work: (server: ExportedServer) => Promise<T>): Promise<T> {
  const own = await serveExported(folder.at("repository"), serving);
  try {
    return await work(own);
  } finally {
    await own.close();
  }
}

describe("refused before anything is sent:", () => {
  test.each<[string, readonly string[], RegExp, number?]>([
    ["guidance", ["--cfg", "2.5"], /Cannot use --cfg 2\.5 on the server at .*has no guidance/],
    ["a LoRA", ["--lora", "lightning-4steps"], /Cannot use --lora lightning-4steps .*was exported without a LoRA/],
    ["another reference method", ["--reference-method", "offset"], /--reference-method offset .*exported with index/],
    ["another compute type", ["--dtype", "bfloat16"], /Cannot use --dtype bfloat16 .*computes in f32/],
    ["tiles", ["--tile", "64"], /Cannot use --tile 64/],
    ["another tool's numbers", ["--match", "comfyui"], /Cannot use --match comfyui/],
    ["noise for lcm", ["--sampler", "lcm", "--lcm-noise", "2"], /Cannot use --sampler lcm/],
  ])("%s", async (_, options, message) => {
    const ran = server.runs.length;
    for (const remote of [`qedit=${server.grpc}`, all(server.url)])
      expectRefusal(await run(remote, options), { code: 2, message, hint: /\S/ });
    expect(server.runs.length).toBe(ran);
  });

  test("an edit that begins with picture 1, in one request", async () => {
    const ended = await run(`qedit=${server.grpc}`, ["--denoise", "0.5"]);
    expectRefusal(ended, { code: 2, message: /Cannot use --denoise 0\.5 .*begins with noise alone/ });
  });

  test("more pictures than it was exported for", async () => {
    const args = ["run", CAT, ROCKET, ...EDIT, "--remote", all(server.grpc), "-o", "no.png"];
    const message = /Cannot edit 2 pictures on the server at .*exported for up to 1/;
    expectRefusal(await qedit(args, { cwd: folder.path }), { code: 2, message, hint: /--images 2/ });
  });

  test("by the commands of single stages too", async () => {
    const args = ["encode-image", CAT, "--model", "tiny", "--tile", "64", "--remote", `encode-image=${server.grpc}`];
    expectRefusal(await qedit([...args, "-o", "no.safetensors"], { cwd: folder.path }), {
      code: 2,
      message: /--tile 64/,
    });
  });

  test("a LoRA of another name, strength or number than in the export", async () => {
    const lora = fixture("tiny-model/tiny-Lightning-4steps-bf16.safetensors");
    copyFileSync(lora, folder.at("mine-Lightning-4steps.safetensors"));
    const made = ["--model", "tiny", "--lora", `${folder.at("mine-Lightning-4steps.safetensors")}:0.5`];
    const exporting = ["export", "triton", "mine", ...made, "--device", "cpu", "--images", "1", "-q"];
    expect((await qedit(exporting, { cwd: folder.path })).code).toBe(0);
    const own = await serveExported(folder.at("mine"));
    try {
      for (const [options, message, code] of [
        [[], /was exported with mine-Lightning-4steps\.safetensors:0\.5/, 2],
        [["--lora", "lightning-4steps"], /was exported with mine-Lightning-4steps\.safetensors:0\.5/, 2],
        [["--lora", "unheard-of.safetensors:0.5"], /unheard-of\.safetensors on the server at .*exported with mine/, 3],
      ] as const) {
        const ended = await run(`sample=${own.grpc}`, [...options, "--force"]);
        expectRefusal(ended, { code, message });
      }
      expect(own.runs).toEqual([]);
      // The same weights under another name.
      expect((await run(`sample=${own.grpc}`, ["--lora", "lightning-4steps:0.5"])).code).toBe(0);
    } finally {
      await own.close();
    }
  });
});

describe("a server", () => {
  const changed = (change: (facts: Record<string, unknown>) => unknown): Serving => ({
    parameters: ({ qedit: facts }) => ({
      qedit: { string_value: JSON.stringify(change(JSON.parse(facts!.string_value))) },
    }),
  });

  test.each<[string, Serving, RegExp, number?]>([
    ["of an export without the parameter", { parameters: () => ({}) }, /which says what was exported, is missing/],
    [
      "whose parameter is no JSON",
      { parameters: () => ({ qedit: { string_value: "{" } }) },
      /"qedit" of its configuration/,
    ],
    ["of a later format", changed((facts) => ({ ...facts, format: "qedit-exported 9" })), /no fitting "format"/],
    [
      "whose parameter is huge",
      { parameters: () => ({ qedit: { string_value: "x".repeat(1e6) } }) },
      /1000000 characters/,
    ],
    ["of files that it does not name", changed((facts) => ({ ...facts, weights: {} })), /names no file as/],
    [
      "of other weights",
      changed((facts) => ({ ...facts, weights: otherIdentities(facts["weights"] as Weights) })),
      /has other weights: wanted tiny_/,
      3,
    ],
  ])("%s is refused before anything is sent", async (_, serving, message, code = 1) => {
    await withServer(serving, async (own) => {
      for (const remote of [`qedit=${own.grpc}`, all(own.url), `sample=${own.grpc}`])
        expectRefusal(await run(remote), { code, message, hint: /\S/ });
      expect(own.runs).toEqual([]);
    });
  });

  test("whose weights are not known here causes a warning, and nothing of it is kept", async () => {
    const catalog = JSON.parse(readFileSync("models.json", "utf8")) as {
      models: { tiny: { files: { transformer: { sha256?: string; identity?: string } } } };
    };
    const { transformer } = catalog.models.tiny.files;
    delete transformer.sha256;
    delete transformer.identity;
    const path = folder.at("models.json");
    writeFileSync(path, JSON.stringify(catalog));
    const before = server.runs.length;
    for (const _ of [1, 2]) {
      const ended = await run(`sample=${server.grpc}`, ["-v", "--seed", "9"], { QEDIT_CATALOG: path });
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr).toMatch(/computes with the weights of this model is not known: transformer/);
    }
    expect(server.runs.slice(before)).toEqual(["sample", "sample"]);
  });

  test("whose statistics are not those of its VAE is refused", async () => {
    const statistics = { mean: new Array(16).fill(0), std: new Array(16).fill(1) };
    await withServer(
      changed((facts) => ({ ...facts, statistics })),
      async (own) => {
        const message = /its latents are not normalised by the statistics of its configuration/;
        expectRefusal(await run(`encode-image=${own.grpc}`, ["--seed", "11", "--no-cache"]), { code: 1, message });
      },
    );
  });

  const first = (change: (output: ServedOutput) => void): Serving => ({ answer: ([output]) => change(output!) });
  test.each<[string, string, Serving, RegExp, number?]>([
    [
      "another shape",
      "sample",
      first((each) => void (each.shape = [1, 16, 1, each.data.length / 64])),
      /latents FP32 .*wanted FP32 \[1, 16,/,
    ],
    [
      "a shape that the bytes do not have",
      "encode-image",
      first((each) => void (each.shape = [1, 16, 9, 9])),
      /takes 5184 bytes, found/,
    ],
    [
      "a shape of huge lengths",
      "decode",
      first((each) => void (each.shape = [2 ** 30, 2 ** 30, 3])),
      /its shape is|takes \d+ bytes/,
    ],
    [
      "another picture's size",
      "decode",
      first((each) => void (each.shape = [each.shape[1]!, each.shape[0]!, 3])),
      /image UINT8 .*wanted UINT8/,
    ],
    [
      "another datatype",
      "encode-prompt",
      first((each) => void (each.datatype = "INT32")),
      /prompt_embeds INT32 .*wanted FP32/,
    ],
    ["an unknown datatype", "sample", first((each) => void (each.datatype = "FP128")), /its datatype is "FP128"/],
    [
      "another name",
      "sample",
      first((each) => void (each.name = "x\u001b[31m")),
      /an output "x\[31m", which was not asked for/,
    ],
    ["no output", "sample", { answer: (outputs) => void outputs.pop() }, /it lacks the tensor "latents"/],
    [
      "an output too many",
      "decode",
      { answer: (outputs) => void outputs.push({ ...outputs[0]!, name: "more" }) },
      /an output "more"/,
    ],
    [
      "NaN",
      "sample",
      first((each) => void each.data.writeFloatLE(Number.NaN, 8)),
      /tensor "latents" holds NaN at element 2/,
      5,
    ],
    ["infinity", "encode-prompt", first((each) => void each.data.writeFloatLE(-Infinity, 8)), /holds -Infinity/, 5],
    [
      "values that no VAE gives",
      "encode-image",
      first((each) => void each.data.writeFloatLE(1e30, 8)),
      /more than 1000000/,
      5,
    ],
    ["tokens too few", "encode-prompt", first(cutRow), /prompt_embeds FP32 .*wanted FP32/],
    ["a flat picture", "decode", first((each) => void each.data.fill(7)), /one flat colour/, 5],
  ])("that answers with %s is refused", async (_, stage, serving, message, code = 1) => {
    await withServer(serving, async (own) => {
      for (const address of [own.grpc, own.url]) expectRefusal(await run(`${stage}=${address}`), { code, message });
    });
  });

  test.each<[string, Serving, RegExp, number]>([
    [
      "whose queue is full",
      refusing("UNAVAILABLE", "Exceeds maximum queue size"),
      /does not run sample: Exceeds maximum queue size/,
      1,
    ],
    [
      "that is not ready",
      refusing("UNAVAILABLE", "Request for unknown model: 'sample' has no available versions"),
      /failed in sample/,
      1,
    ],
    [
      "that ran out of memory",
      refusing("INTERNAL", "Failed to allocate memory for requested buffer"),
      /failed in sample: Failed to allocate/,
      4,
    ],
    [
      "whose graph found no finite values",
      refusing("INTERNAL", "onnx runtime error 6: while running Reshape node. Name:'the latents must be finite'"),
      /values in sample that are not finite/,
      5,
    ],
    ["that refuses", refusing("INVALID_ARGUMENT", "unexpected shape"), /does not run sample: unexpected shape/, 2],
    ["that lacks the model", { without: /^sample$/ }, /has no model "sample": Request for unknown model/, 1],
  ])("%s says so by its code", async (_, serving, message, code) => {
    await withServer(serving, async (own) => {
      for (const address of [own.grpc, own.url])
        expectRefusal(await run(`sample=${address}`, ["--seed", "8"]), { code, message });
    });
  });

  test.each([
    ["busy", refusing("UNAVAILABLE", "Exceeds maximum queue size")],
    ["out of memory", refusing("INTERNAL", "CUDA error: out of memory")],
  ])("that is %s is passed over, as one that is not there", async (_, serving) => {
    await withServer(serving, async (own) => {
      const ended = await run(`sample=${DEAD},${own.grpc},${server.grpc}`);
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr.match(/the next server is asked/g)).toHaveLength(2);
      expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png")))).toBe(true);
    });
  });

  test("that has some of the ensembles only says which one is missing", async () => {
    await withServer({ without: /^(qedit_1)$/ }, async (own) => {
      expectRefusal(await run(`qedit=${own.grpc}`), { code: 1, message: /has no model "qedit"/ });
    });
  });

  test("that says nothing is left after --remote-timeout", async () => {
    await withServer({ refusal: () => new Promise(() => {}) }, async (own) => {
      for (const address of [own.grpc, own.url]) {
        const ended = await run(`encode-image=${address}`, ["--remote-timeout", "1s"]);
        expectRefusal(ended, { code: 1, message: /Gave up encode_image on the server at .*: no answer within 1 s/ });
      }
    });
  });

  test("wants QEDIT_REMOTE_KEY, over both protocols", async () => {
    await withServer({ key: "secret" }, async (own) => {
      for (const address of [own.grpc, own.url]) {
        expectRefusal(await run(`qedit=${address}`), { code: 1, message: /refuses the key/, hint: /QEDIT_REMOTE_KEY/ });
        expect((await run(`qedit=${address}`, [], { QEDIT_REMOTE_KEY: "secret" })).code).toBe(0);
      }
    });
  });

  test("is left when the edit is cancelled", async () => {
    const serving: Serving = { refusal: () => new Promise(() => {}) };
    await withServer(serving, async (own) => {
      const args = ["run", CAT, ...EDIT, "--remote", `qedit=${own.grpc}`, "-o", "no.png"];
      const ended = await spawned(args, {
        cwd: folder.path,
        started: (child) => {
          const wait = setInterval(() => {
            if (own.runs.length === 0) return;
            clearInterval(wait);
            child.kill("SIGINT");
          }, 50);
        },
      });
      expect(ended.code).toBe(130);
    });
  });
});

type Weights = Readonly<Record<string, object>>;

function otherIdentities(weights: Weights): Weights {
  const other = "0".repeat(64);
  return Object.fromEntries(
    Object.entries(weights).map(([role, each]) => [role, { ...each, identity: other, sha256: other }]),
  );
}

function refusing(
  code: NonNullable<Awaited<ReturnType<NonNullable<Serving["refusal"]>>>>["code"],
  text: string,
): Serving {
  return { refusal: () => ({ code, text }) };
}

function cutRow(output: ServedOutput): void {
  const [, tokens, width] = output.shape as [number, number, number];
  output.shape = [1, tokens - 1, width];
  output.data = output.data.subarray(0, (tokens - 1) * width * 4);
}
