// Tensors of 16 MB over both protocols, to the server and back: the latents of three pictures of four megapixels.
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { imagesOf } from "./edits.js";
import { type GrpcClient, grpcClient, inferGrpc } from "./grpc-client.js";
import { inferHttp, strings, type TestCall, type TestTensor } from "./http-client.js";

const folder = temporaryFolder();
const SIXTEEN = 16e6;
/** Milliseconds for the way there and back: 100 to 400 were seen on two cores. */
const ROUND_TRIP = 3000;
/** Milliseconds to encode three pictures of four megapixels, on a busy machine. */
const WITHIN = 400_000;

let server: TestServer;
let client: GrpcClient;
beforeAll(async () => {
  server = await startServer({ folder: folder.path, args: ["--grpc", "127.0.0.1:0"] });
  client = grpcClient(String(server.log.find(({ grpc }) => grpc !== undefined)!["grpc"]));
});
afterAll(async () => {
  client.close();
  await server.stop("SIGKILL");
});

test.each(["HTTP", "gRPC"])(
  "go round over %s, the same bytes as over the other",
  async (protocol) => {
    const infer = (model: string, call: TestCall) =>
      protocol === "HTTP" ? inferHttp(server.url, model, call) : inferGrpc(client, model, call);
    const call = { inputs: imagesOf([ROCKET, CAT, CAT]), parameters: { megapixels: 4 } };
    // Computed once: after that they come from the cache.
    const first = await inferGrpc(client, "encode_image", call);
    const start = performance.now();
    const latents = await infer("encode_image", call);
    const back = performance.now() - start;
    const bytes = latents.reduce((sum, tensor) => sum + tensor.bytes.length, 0);
    expect(bytes).toBeGreaterThan(SIXTEEN);
    expect(latents.every((tensor, index) => tensor.bytes.equals(first[index]!.bytes))).toBe(true);
    // Refused only after all of it was read, for the embeddings are of no transformer.
    const embeds: TestTensor = { name: "prompt_embeds", datatype: "FP32", shape: [1, 3, 5], bytes: Buffer.alloc(60) };
    const record = strings(
      "cond_record",
      JSON.stringify({ kind: "cond", version: 1, settings: {}, sizes: {}, inputs: {}, weights: {} }),
    );
    const there = performance.now();
    await expect(infer("sample", { inputs: [...latents, embeds, record] })).rejects.toThrow("5 wide");
    const forth = performance.now() - there;
    console.log(
      `${protocol}: ${(bytes / 1e6).toFixed(1)} MB back in ${back.toFixed(0)} ms, there in ${forth.toFixed(0)} ms`,
    );
    expect(back + forth).toBeLessThan(ROUND_TRIP);
  },
  WITHIN,
);
