// Parameters as texts, by both doors of KServe V2: clients that know no types send all of them so.
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { imagesOf } from "./edits.js";
import { type GrpcClient, grpcClient, inferGrpc } from "./grpc-client.js";
import { firstString, inferHttp, strings, type TestCall } from "./http-client.js";

const folder = temporaryFolder();
const PARAMETERS = { megapixels: "0.02", steps: "2", paste_back: "true", strict_lora: "false" };
const inputs = [...imagesOf([CAT]), strings("PROMPT", "make it sepia")];

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

test("switches and numbers count", async () => {
  const wanted = await ran(
    [CAT],
    { prompt: "make it sepia", megapixels: "0.02", steps: "2", paste_back: "true" },
    folder,
  );
  for (const infer of [
    (call: TestCall) => inferHttp(server.url, "qedit", call),
    (call: TestCall) => inferGrpc(client, "qedit", call),
  ]) {
    const [image] = await infer({ inputs, parameters: PARAMETERS });
    expect(firstString(image!).equals(wanted)).toBe(true);
  }
});

test("of a stage count, and what is no switch is refused", async () => {
  const empty = (allowed: string) => ({
    inputs: [strings("PROMPT", "")],
    parameters: { allow_empty_prompt: allowed },
  });
  const cond = await inferHttp(server.url, "encode_prompt", empty("True"));
  expect(cond.length).toBeGreaterThan(0);
  await expect(inferHttp(server.url, "encode_prompt", empty("maybe"))).rejects.toThrow(/true or false is wanted/);
});
