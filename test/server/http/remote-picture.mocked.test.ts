// Pictures by URL, with a network that is made here: what is fetched for one request is bounded together, and ends with it.
import { EventEmitter } from "node:events";
import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { ofJson } from "../../../src/server/http/openai/edit-body.js";
import { pictureFetcher } from "../../../src/server/http/openai/remote-picture.js";

const network = vi.hoisted(() => ({ calls: 0, isSilent: false }));

vi.mock("node:dns/promises", () => ({ lookup: async () => [{ address: "1.1.1.1", family: 4 }] }));
vi.mock("node:https", () => ({
  request: (_url: URL, { signal }: { signal: AbortSignal }, answer: (response: Readable) => void) => {
    network.calls += 1;
    const call = Object.assign(new EventEmitter(), {
      end: () => {
        if (!network.isSilent) answer(Object.assign(Readable.from([Buffer.alloc(400)]), { statusCode: 200 }));
      },
    });
    signal.addEventListener("abort", () => call.emit("error", signal.reason));
    return call;
  },
}));

const body = ofJson({
  prompt: "x",
  images: Array.from({ length: 9 }, (_, at) => `https://pictures.example/${at}.png`),
});
const allowed = { hosts: ["pictures.example"], most: 1000, signal: new AbortController().signal };

test("all pictures of a request have its bytes together", async () => {
  await expect(body.read(pictureFetcher(allowed))).rejects.toMatchObject({
    code: "QEDIT_E_NETWORK",
    message: expect.stringContaining("together, and have more"),
  });
  expect([body.count, network.calls]).toEqual([9, 3]);
});

test("nothing is fetched for a client that has left", async () => {
  network.isSilent = true;
  const client = new AbortController();
  const reading = body.read(pictureFetcher({ ...allowed, signal: client.signal }));
  const before = network.calls;
  await vi.waitFor(() => expect(network.calls).toBe(before + 1));
  client.abort(new Error("gone"));
  await expect(reading).rejects.toMatchObject({ code: "QEDIT_E_NETWORK", message: expect.stringContaining("gone") });
});
