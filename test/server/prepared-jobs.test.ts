// Requests that are resolved and checked before they are queued.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EditServer } from "../../src/server/edit-server.js";
import { CAT } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { openedServer } from "./opened-server.js";

const folder = temporaryFolder();
const request = (parameters: Readonly<Record<string, unknown>>) => ({
  ...{ pictures: [{ name: "cat.jpg", bytes: readFileSync(CAT) }], mask: undefined },
  parameters: { prompt: "make it sepia", megapixels: 0.005, steps: 1, ...parameters },
});

let server: EditServer;
beforeAll(async () => {
  server = await openedServer(folder, { queue: 1 });
});
afterAll(() => server.close());

test("they are queued when they are started, and wait for no room before", async () => {
  const [first, second] = [
    await server.prepare(request({ seed: "1" }), {}),
    await server.prepare(request({ seed: "2" }), {}),
  ];
  expect(server.load()).toEqual({ queued: 0, running: 0 });
  const job = await first.start();
  await expect(second.start()).rejects.toMatchObject({ code: "QEDIT_E_BUSY" });
  expect(await job.outcome).toMatchObject({ seed: "1", type: "image/png" });
  await expect.poll(() => server.load()).toEqual({ queued: 0, running: 0 });
  expect(await (await second.start()).outcome).toMatchObject({ seed: "2" });
});

test("what cannot be done is refused before", async () => {
  await expect(server.prepare(request({ steps: 1000 }), {})).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
  const pictures = [{ name: "cat.jpg", bytes: Buffer.from("no picture") }];
  await expect(server.prepare({ ...request({}), pictures }, {})).rejects.toMatchObject({ code: "QEDIT_E_IMAGE" });
});
