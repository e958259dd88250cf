// The memory of a server that gets small files of large pictures.
import { readFileSync } from "node:fs";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { sendJob } from "../jobs.js";

const folder = temporaryFolder();
/** Pixels along a side: 300 MB when it is decoded, some kilobytes as a file. */
const SIDE = 10_000;
/** Two decoded pictures, what decoding takes beside them, and the server itself. */
const MOST_BYTES = 2.5e9;

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.path });
});
afterAll(() => server.stop("SIGKILL"));

test.skipIf(process.platform !== "linux")(
  "many large pictures at once are decoded one request after the other",
  async () => {
    const picture = await sharp({ create: { width: SIDE, height: SIDE, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const formOf = (seed: number) => {
      const form = new FormData();
      for (const name of ["1.png", "2.png"]) form.append("image", new Blob([picture as Uint8Array<ArrayBuffer>]), name);
      for (const [name, value] of Object.entries({ prompt: "x", megapixels: "0.02", seed: String(seed) }))
        form.append(name, value);
      return form;
    };
    const jobs = await Promise.all(Array.from({ length: 10 }, (_, seed) => sendJob(server.url, formOf(seed))));
    const [, peak = "0"] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.child.pid}/status`, "utf8")) ?? [];
    expect(Number(peak) * 1024).toBeLessThan(MOST_BYTES);
    for (const { id } of jobs) await fetch(`${server.url}/v1/jobs/${id}`, { method: "DELETE" });
  },
);
