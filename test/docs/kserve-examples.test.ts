// The examples of docs/kserve.md, run against a real server as they stand there: curl, tritonclient over HTTP and gRPC, grpcurl.
import { execFile } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../cli/qedit.js";
import { ran } from "../server/ran.js";
import { temporaryFolder } from "../support/folder.js";
import { builtTool } from "../support/go-tools.js";
import { pythonWith } from "../support/python.js";
import { startServer, type TestServer } from "../support/server.js";
import { fencedBlocks, ROOT } from "./pages.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const page = readFileSync(join(ROOT, "docs/kserve.md"), "utf8");
const python = await pythonWith(["tritonclient[http,grpc]==2.73.0"]);
if ("missing" in python) console.warn(`not run, for want of tritonclient: ${python.missing}`);
const grpcurl = await builtTool("grpcurl");
if ("missing" in grpcurl) console.warn(`not run, for want of grpcurl: ${grpcurl.missing}`);

let server: TestServer;
let grpc: string;
beforeAll(async () => {
  server = await startServer({ folder: folder.path, args: ["--grpc", "127.0.0.1:0", "--no-cache"] });
  grpc = String(server.log.find((line) => line["grpc"] !== undefined)!["grpc"]);
  copyFileSync(CAT, folder.at("photo.jpg"));
  copyFileSync(join(ROOT, "docs/examples/kserve_chain.py"), folder.at("kserve_chain.py"));
});
afterAll(() => server.stop("SIGKILL"));

/** Runs the examples that hold a text, with the programs of a folder. */
async function runExamples(holding: string, bin = ""): Promise<number> {
  const blocks = fencedBlocks(page, "sh").filter((block) => block.includes(holding));
  for (const block of blocks) {
    const typed = block
      .replaceAll("127.0.0.1:8000", new URL(server.url).host)
      .replaceAll("127.0.0.1:8001", grpc)
      .replace(/^pip install .*$/m, "");
    const env = { ...process.env, PATH: `${bin}:${process.env["PATH"]}` };
    await run("bash", ["-euo", "pipefail", "-c", typed], { cwd: folder.path, env });
  }
  return blocks.length;
}

test("curl gets a picture from the whole edit, and latents from a picture", async () => {
  expect(await runExamples("/infer")).toBe(2);
  expect((await sharp(folder.at("winter.png")).metadata()).width).toBeGreaterThan(100);
  expect(readFileSync(folder.at("latents.bin"), "latin1")).toContain('"name":"reference_latents.0"');
});

const FIELDS = { prompt: "make it winter", seed: "42", megapixels: "0.25" };

test.skipIf("missing" in python)(
  "tritonclient chains the stages over both protocols to the bytes of qedit run",
  async () => {
    const bin = "bin" in python ? python.bin : "";
    // The picture's name is in the recipe.
    const wanted = await ran([folder.at("photo.jpg")], FIELDS, folder);
    expect(await runExamples("kserve_chain.py", bin)).toBe(1);
    expect(readFileSync(folder.at("chained.png")).equals(wanted)).toBe(true);
    for (const [protocol, address] of [
      ["http", new URL(server.url).host],
      ["grpc", grpc],
    ] as const) {
      const made = folder.at(`${protocol}.png`);
      const guided = ["seed=7", "steps=2", "cfg=2.5", "negative_prompt=", "megapixels=0.02"];
      const command = ["kserve_chain.py", protocol, address, "photo.jpg", "make it winter", made, ...guided];
      await run(join(bin, "python"), command, { cwd: folder.path });
      const fields = {
        prompt: "make it winter",
        seed: "7",
        steps: "2",
        cfg: "2.5",
        negative_prompt: "",
        megapixels: "0.02",
      };
      expect(readFileSync(made).equals(await ran([folder.at("photo.jpg")], fields, folder)), protocol).toBe(true);
    }
  },
);

test.skipIf("missing" in python)("tritonclient's other calls are answered over both protocols", async () => {
  const script = folder.write("calls.py", CALLS);
  const bin = "bin" in python ? python.bin : "";
  const { stdout } = await run(join(bin, "python"), [script, new URL(server.url).host, grpc, CAT]);
  expect(stdout).toBe("http ok\ngrpc ok\n");
});

test.skipIf("missing" in grpcurl)("grpcurl follows an edit by its progress", async () => {
  expect(await runExamples("grpcurl", "bin" in grpcurl ? grpcurl.bin : "")).toBe(1);
  const progress = readFileSync(folder.at("progress.json"), "utf8");
  expect(progress.match(/"stringParam": "step"/g)?.length).toBeGreaterThan(2);
  expect(progress).toContain('"boolParam": true');
});

const CALLS = `
import sys, time
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

def element(value):
    return np.array([value], dtype=np.object_)

def edit(triton, path):
    inputs = []
    for name, datatype, values in (("IMAGE", "BYTES", element(open(path, "rb").read())), ("PROMPT", "BYTES", element(b"make it winter")),
                                   ("STEPS", "INT32", np.array([2], dtype=np.int32)), ("SEED", "INT64", np.array([7], dtype=np.int64)),
                                   ("CFG", "FP32", np.array([1], dtype=np.float32))):
        inputs.append(triton.InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values)
    return inputs

pictures = []
for protocol, triton, address in (("http", tritonclient.http, sys.argv[1]), ("grpc", tritonclient.grpc, sys.argv[2])):
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sample", "1")
    as_json = {} if protocol == "http" else {"as_json": True}
    assert client.get_server_metadata(**as_json)["name"] == "qedit"
    assert client.get_model_metadata("decode", **as_json)["inputs"][0]["name"] == "latent_tensor"
    config = client.get_model_config("decode", **as_json)
    assert (config if protocol == "http" else config["config"])["input"][0]["data_type"] == "TYPE_FP32"
    index = client.get_model_repository_index(**as_json)
    assert len(index if protocol == "http" else index["models"]) == 11
    client.load_model("qedit")
    client.unload_model("sample")
    wanted = [triton.InferRequestedOutput("IMAGE")]
    count = lambda: int(client.get_inference_statistics("qedit", **as_json)["model_stats"][0]["inference_stats"]["success"].get("count", 0))
    before = count()
    answer = client.infer("qedit", edit(triton, sys.argv[3]), outputs=wanted, request_id="7", timeout=60_000_000, parameters={"megapixels": "0.02"})
    pictures.append(answer.as_numpy("IMAGE")[0])
    assert count() == before + 1
    for refused, status in ((lambda: client.get_model_metadata("nothing"), "404 NOT_FOUND"), (lambda: client.infer("decode", []), "400 INVALID_ARGUMENT"),
                            (lambda: client.load_model("decode", config="{}"), "400 INVALID_ARGUMENT")):
        try:
            refused()
            raise SystemExit("it was not refused")
        except InferenceServerException as error:
            assert error.status().split(".")[-1] in status, error
    if protocol == "http":
        half = triton.InferInput("latent_tensor", [1, 16, 8, 8], "FP16")
        half.set_data_from_numpy(np.linspace(-1, 1, 1024).reshape(1, 16, 8, 8).astype(np.float16))
        client.infer("decode", [half], request_compression_algorithm="gzip", response_compression_algorithm="gzip").as_numpy("IMAGE")
    else:
        answers = []
        client.start_stream(callback=lambda result, error: answers.append((result, error)))
        client.async_stream_infer("qedit", edit(triton, sys.argv[3]), parameters={"megapixels": "0.02"}, enable_empty_final_response=True)
        client.async_stream_infer("nothing", edit(triton, sys.argv[3]))
        end = time.time() + 30
        while not (answers and answers[-1][1]) and time.time() < end:
            time.sleep(0.05)
        client.stop_stream()
        responses = [result.get_response() for result, error in answers if error is None]
        assert [r.parameters["triton_final_response"].bool_param for r in responses] == [False] * (len(responses) - 1) + [True]
        assert answers[-1][1] is not None and answers[-2][0].as_numpy("IMAGE")[0] == pictures[0]
    print(protocol, "ok")
assert pictures[0] == pictures[1]
`;
