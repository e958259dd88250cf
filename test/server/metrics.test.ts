// What /metrics says of whole edits and of single stages, on a real server.
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { startServer, type TestServer } from "../support/server.js";
import { imagesOf } from "./kserve/edits.js";
import { inferHttp, strings, type TestCall } from "./kserve/http-client.js";

const folder = temporaryFolder();

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.path, args: ["--metrics", "--no-cache"] });
});
afterAll(() => server.stop("SIGKILL"));

const infer = (model: string, call: TestCall) => inferHttp(server.url, model, call);
/** The values of series by their name and labels. */
async function series(): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))] as const));
}

test("single stages are counted as edits are, with their stage", async () => {
  const prompt = { inputs: [strings("PROMPT", "make it sepia")] };
  const before = await series();
  expect(before.get('qedit_jobs_total{state="completed",stage="encode-prompt"}')).toBe(0);
  expect(before.get('qedit_queue_depth{stage="sample"}')).toBe(0);
  const size = { parameters: { megapixels: 0.02 } };
  const [latents, cond] = [
    await infer("encode_image", { inputs: imagesOf([CAT]), ...size }),
    await infer("encode_prompt", prompt),
  ];
  const samples = await infer("sample", { inputs: [...latents, ...cond], parameters: { steps: 1 } });
  await infer("decode", { inputs: samples });
  await infer("qedit", { inputs: [...imagesOf([CAT]), ...prompt.inputs], parameters: { megapixels: 0.02, steps: 1 } });
  const after = await series();
  for (const stage of ["encode-image", "encode-prompt", "sample", "decode"]) {
    expect(after.get(`qedit_jobs_total{state="completed",stage="${stage}"}`), stage).toBe(1);
    expect(after.get(`qedit_queue_wait_seconds_count{stage="${stage}"}`), stage).toBe(1);
    // Of both.
    expect(after.get(`qedit_stage_seconds_count{stage="${stage}"}`), stage).toBe(2);
  }
  expect(after.get('qedit_jobs_total{state="completed"}')).toBe(1);
  expect(after.get("qedit_queue_wait_seconds_count")).toBe(1);
});

test("stages that run and wait are seen, one that is cancelled is counted so, one that is refused is not", async () => {
  const latent = { name: "latent_tensor", datatype: "FP32", shape: [1, 4, 8, 8], bytes: Buffer.alloc(4 * 64 * 4) };
  await expect(infer("decode", { inputs: [latent] })).rejects.toThrow(/^400: /);
  const latents = await infer("encode_image", { inputs: imagesOf([CAT]), parameters: { megapixels: 0.02 } });
  const cond = await infer("encode_prompt", { inputs: [strings("PROMPT", "make it sepia")] });
  const long = { inputs: [...latents, ...cond], parameters: { steps: 150, timeout: 1_500_000 } };
  const both = Promise.allSettled([infer("sample", long), infer("sample", long)]);
  await expect
    .poll(async () => {
      const now = await series();
      return [now.get('qedit_jobs_running{stage="sample"}'), now.get('qedit_queue_depth{stage="sample"}')];
    })
    .toEqual([1, 1]);
  await both;
  await expect.poll(async () => (await series()).get('qedit_jobs_total{state="cancelled",stage="sample"}')).toBe(2);
  const end = await series();
  expect(end.get('qedit_jobs_running{stage="sample"}')).toBe(0);
  expect(end.get('qedit_jobs_total{state="failed",stage="decode"}')).toBe(0);
  expect(end.get('qedit_jobs_total{state="failed"}')).toBe(0);
});
