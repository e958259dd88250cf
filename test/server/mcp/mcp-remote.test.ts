// `qedit mcp --remote`: an agent's edits whose stages run on a real second qedit.
import { copyFileSync, readFileSync } from "node:fs";
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT, qedit } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { connected, textOf } from "./agents.js";

const folder = temporaryFolder();
const EDIT = { images: ["cat.jpg"], prompt: "make it upside down", size: "96x64", fast: "4" };

let server: TestServer;
let agent: Awaited<ReturnType<typeof connected>>;
beforeAll(async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  server = await startServer({ folder: folder.at("server") });
  agent = await connected(folder, ["--remote", `encode-prompt=${server.url},sample=${server.url}`]);
});
afterAll(async () => {
  await agent.close();
  await server.stop("SIGKILL");
});

async function called(name: string, args: Readonly<Record<string, unknown>>): Promise<CallToolResult> {
  return (await agent.client.callTool({ name, arguments: args })) as CallToolResult;
}

test("an edit has the bytes of one that is made here", async () => {
  const made = await called("edit_image", { ...EDIT, output: "there.png" });
  expect(made.isError, textOf(made)).toBeFalsy();
  const flags = ["-p", EDIT.prompt, "--size", EDIT.size, "--fast", "4", "--model", "tiny", "--no-cache"];
  const ran = await qedit(["run", "cat.jpg", ...flags, "--device", "cpu", "--threads", "1", "-o", "here.png"], {
    cwd: folder.path,
  });
  expect(ran.code, ran.stderr).toBe(0);
  expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png")))).toBe(true);
  // The server says that it did the stage.
  expect(server.log.some((line) => JSON.stringify(line).includes("sample"))).toBe(true);
});

test("a plan says where stages run", async () => {
  const planned = await called("plan_edit", EDIT);
  expect(planned.isError, textOf(planned)).toBeFalsy();
  expect(planned.structuredContent).toMatchObject({ plan: { elsewhere: expect.anything() } });
  expect(textOf(planned)).toContain(server.url);
});

test("both refuse files of this machine that only a stage elsewhere would read", async () => {
  for (const name of ["edit_image", "plan_edit"]) {
    const refused = await called(name, { ...EDIT, transformer: "own.safetensors" });
    expect(refused.isError, name).toBe(true);
    expect(textOf(refused), name).toMatch(/runs elsewhere/);
  }
});
