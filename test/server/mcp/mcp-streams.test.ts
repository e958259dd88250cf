// The streams of `qedit mcp`: what is no message, a client that goes away, and what is left.
import { copyFileSync, existsSync, readdirSync } from "node:fs";
import { text } from "node:stream/consumers";
import { beforeAll, expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startedServer } from "./agents.js";

const folder = temporaryFolder();
const EDIT = { prompt: "make it upside down", size: "96x64", steps: 2 };
beforeAll(() => copyFileSync(CAT, folder.at("cat.jpg")));

const hello = {
  ...{ jsonrpc: "2.0", id: 1, method: "initialize" },
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "t", version: "1" } },
};
const call = (id: number, args: object) => ({
  ...{ jsonrpc: "2.0", id, method: "tools/call" },
  params: { name: "edit_image", arguments: args, _meta: { progressToken: id } },
});
const line = (message: object) => `${JSON.stringify(message)}\n`;

test("stdout carries only messages, whatever comes in and whatever else is asked for", async () => {
  const server = startedServer(folder, { QEDIT_JSON: "1", QEDIT_DEBUG: "1" });
  const [stdout, stderr] = [text(server.stdout), text(server.stderr)];
  server.stdin.write("\n{nonsense\n[]\nnull\n\u0000\n");
  server.stdin.write(line(hello));
  server.stdin.write(line({ jsonrpc: "2.0", method: "notifications/initialized" }));
  // A message in many pieces.
  for (const part of line(call(2, { images: ["cat.jpg"], ...EDIT, output: "pieces.png" })).match(/.{1,7}|\n/g)!)
    server.stdin.write(part);
  await expect.poll(() => existsSync(folder.at("pieces.png")), { timeout: 60_000 }).toBe(true);
  server.stdin.write(line({ jsonrpc: "2.0", id: 3, method: "ping" }));
  server.stdin.write(line({ jsonrpc: "2.0", id: 4 }));
  await new Promise((resolve) => setTimeout(resolve, 500));
  server.stdin.end();
  const messages = (await stdout)
    .trimEnd()
    .split("\n")
    .map((each) => JSON.parse(each) as { jsonrpc: string; id?: number });
  expect(messages.every(({ jsonrpc }) => jsonrpc === "2.0")).toBe(true);
  // Answers come as they are ready.
  expect(messages.flatMap(({ id }) => id ?? []).sort()).toEqual([1, 2, 3, 4]);
  expect(await stderr).toContain("a line that is no JSON was dropped");
});

test("when stdin ends the work is cancelled, and the process ends without leaving anything", async () => {
  const server = startedServer(folder);
  const closed = new Promise<[number | null, number]>((resolve) =>
    server.on("close", (code) => resolve([code, performance.now()])),
  );
  let shown = "";
  server.stdout.on("data", (part: Buffer) => (shown += part.toString()));
  server.stdin.write(line(hello));
  server.stdin.write(line(call(2, { images: ["cat.jpg"], ...EDIT, steps: 5000, output: "ended.png" })));
  await expect.poll(() => shown, { timeout: 60_000 }).toContain("sample 2/5000");
  const start = performance.now();
  server.stdin.end();
  const [code, end] = await closed;
  expect(code).toBe(0);
  expect(end - start).toBeLessThan(10_000);
  expect(existsSync(folder.at("ended.png"))).toBe(false);
  expect(readdirSync(folder.path).filter((name) => name.startsWith("qedit-mcp-"))).toEqual([]);
});
