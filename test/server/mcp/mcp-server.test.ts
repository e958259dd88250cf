// The Model Context Protocol: the SDK's client against a real `qedit mcp`.
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { CallToolResult, Progress } from "@modelcontextprotocol/sdk/types.js";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, qedit } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { connected, textOf } from "./agents.js";

const folder = temporaryFolder();
const EDIT = { prompt: "make it upside down", size: "96x64", steps: 2 };

let client: Client;
let close: () => Promise<void>;
beforeAll(async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  ({ client, close } = await connected(folder));
});
afterAll(() => close());

async function edit(args: Record<string, unknown>, options = {}): Promise<CallToolResult> {
  return (await client.callTool({ name: "edit_image", arguments: args }, undefined, options)) as CallToolResult;
}

test("three tools are listed, whose arguments are the parameters of an edit", async () => {
  const { tools } = await client.listTools();
  expect(tools.map(({ name }) => name)).toEqual(["edit_image", "list_models", "plan_edit"]);
  const [{ inputSchema }] = tools as [(typeof tools)[0]];
  expect(inputSchema.required).toEqual(["prompt"]);
  expect(Object.keys(inputSchema.properties!)).toEqual(
    expect.arrayContaining(["images", "mask", "output", "prompt", "steps", "seed", "negative_prompt", "lora", "vae"]),
  );
  expect(JSON.stringify(tools)).not.toMatch(/--[a-z]|stdin|[\ue000-\ue002]/);
});

test("an edit writes the bytes that qedit run writes, and returns the picture, its recipe and its progress", async () => {
  const progress: Progress[] = [];
  const result = await edit(
    { images: ["cat.jpg"], ...EDIT, output: "agent.png" },
    { onprogress: (each: Progress) => progress.push(each) },
  );
  expect(result.isError, textOf(result)).toBeFalsy();
  const written = readFileSync(folder.at("agent.png"));
  const flags = ["-p", EDIT.prompt, "--size", EDIT.size, "--steps", "2", "--model", "tiny", "--no-cache"];
  const ran = await qedit(["run", "cat.jpg", ...flags, "--device", "cpu", "--threads", "1", "-o", "run.png"], {
    cwd: folder.path,
  });
  expect(ran.code, ran.stderr).toBe(0);
  expect(written.equals(readFileSync(folder.at("run.png")))).toBe(true);

  expect(result.structuredContent).toMatchObject({
    path: folder.at("agent.png"),
    ...{ width: 96, height: 64, seed: "0", device: "cpu" },
    seconds: { sample: expect.any(Number), decode: expect.any(Number) },
    recipe: { names: { "image.1": "cat.jpg" } },
  });
  const image = result.content.find((part) => part.type === "image")!;
  expect([image.mimeType, Buffer.from(image.data, "base64").equals(written)]).toEqual(["image/png", true]);

  const shares = progress.map(({ progress: share }) => share);
  expect(shares).toEqual([...new Set(shares)].sort((a, b) => a - b));
  expect(shares.at(-1)).toBeLessThanOrEqual(100);
  expect(progress.map(({ message }) => message)).toEqual(
    expect.arrayContaining(["sample 1/2", "sample 2/2", "decode"]),
  );
});

test("control characters of a name are escaped in the text, and as they are in the path", async () => {
  const output = "a\u001b[31m\nb.png";
  const result = await edit({ images: ["cat.jpg"], ...EDIT, output });
  expect(textOf(result)).toContain("a\\u001b[31m\\u000ab.png: 96x64");
  expect(result.structuredContent).toMatchObject({ path: folder.at(output) });
});

test("a picture as content gives the same as its path; its result goes into the working folder", async () => {
  const data = readFileSync(CAT).toString("base64");
  const result = await edit({ images: [{ name: "cat.jpg", data }], ...EDIT });
  expect(result.isError, textOf(result)).toBeFalsy();
  expect(readFileSync(folder.at("cat-edit.png")).equals(readFileSync(folder.at("agent.png")))).toBe(true);
});

test("a file is never replaced, not even by two calls at a time; the hint names a free one", async () => {
  const before = readFileSync(folder.at("cat.jpg"));
  const refused = await edit({ images: ["cat.jpg"], ...EDIT, output: "cat.jpg", force: true });
  expect([refused.isError, textOf(refused)]).toEqual([
    true,
    expect.stringMatching(
      /^Cannot write .*cat\.jpg: it is there already.*\nhint: .*"output": ".*cat-2\.jpg"\ncode: QEDIT_E_EXISTS$/,
    ),
  ]);
  expect(readFileSync(folder.at("cat.jpg")).equals(before)).toBe(true);
  const both = await Promise.all(
    [1, 2].map((seed) => edit({ images: ["cat.jpg"], ...EDIT, seed, output: "both.webp" })),
  );
  expect(both.map(({ isError = false }) => isError).sort()).toEqual([false, true]);
  expect((await sharp(folder.at("both.webp")).metadata()).format).toBe("webp");
});

test("cancelling stops the edit between two steps, and the next one runs", async () => {
  const cancelling = new AbortController();
  const onprogress = ({ message }: Progress) => {
    if (message === "sample 2/5000") cancelling.abort("enough");
  };
  const long = edit(
    { images: ["cat.jpg"], ...EDIT, steps: 5000, output: "never.png" },
    { onprogress, signal: cancelling.signal },
  );
  await expect(long).rejects.toThrow("enough");
  const next = await edit({ images: ["cat.jpg"], ...EDIT, output: "next.jpg" });
  expect(next.isError, textOf(next)).toBeFalsy();
  expect(existsSync(folder.at("never.png"))).toBe(false);
});

describe("refuses", () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      "an unknown argument",
      { stepps: 3 },
      /^"stepps" is no argument of this tool\nhint: Did you mean "steps"\?\ncode: QEDIT_E_USAGE$/,
    ],
    ["an argument of another tool's spelling", { "negative-prompt": "x" }, /hint: Did you mean "negative_prompt"\?/],
    ["a value out of range", { steps: 0 }, /^Cannot use 0 for "steps": a whole number from 1/],
    ["no picture", { images: [] }, /^No picture was given\nhint: Give at least one/],
    [
      "a picture that is not there",
      { images: ["nowhere.jpg"] },
      /^Cannot read nowhere\.jpg: there is no such file\nhint: /,
    ],
    ["a picture that is a device", { images: ["/dev/zero"] }, /^Cannot read \/dev\/zero: it is a device/],
    [
      "a picture that is a number",
      { images: [7] },
      /^Cannot use "images\[0\]": a path is wanted, or a file in base64\nhint: /,
    ],
    ["a picture that is no picture", { images: [{ data: "aGVsbG8=" }] }, /^Cannot read image: not a picture/],
    ["what is no base64", { images: [{ data: "%%%" }] }, /^Cannot read the picture: it is not written in base64/],
    ["an empty prompt", { prompt: "" }, /^Cannot edit by an empty prompt/],
    [
      "a setting without effect",
      { cfg: 1, negative_prompt: "blue" },
      /hint: Add "cfg": 2\.5, leave out "negative_prompt"/,
    ],
    ["an unknown model", { model: "nothing" }, /^Cannot find a model named "nothing"/],
    ["a name that is no picture's", { output: "now.txt" }, /^Cannot tell the picture format of .*now\.txt/],
    ["a format of another name", { output: "now.png", format: "webp" }, /^Cannot write .*now\.png as webp/],
    ["a format like no other", { format: "constructor" }, /^Cannot use "constructor" for "format"/],
    [
      "a folder that cannot be made",
      { output: "cat.jpg/x.png" },
      /^Cannot write .*x\.png: a part of its path is a file/,
    ],
  ])("%s", async (_, args, message) => {
    const result = await edit({ images: ["cat.jpg"], ...EDIT, output: "refused.png", ...args });
    expect([result.isError, textOf(result)]).toEqual([true, expect.stringMatching(message)]);
    expect(existsSync(folder.at("refused.png"))).toBe(false);
  });

  test("a tool that is not there", async () => {
    await expect(client.callTool({ name: "draw", arguments: {} })).rejects.toThrow('There is no tool "draw"');
  });
});

test("plan_edit says what an edit takes, by the names of arguments, and writes nothing", async () => {
  const before = folder.names();
  const { steps: _, ...args } = EDIT;
  const plan = (await client.callTool({
    name: "plan_edit",
    arguments: { images: ["cat.jpg"], ...args },
  })) as CallToolResult;
  expect(plan.isError, textOf(plan)).toBeFalsy();
  expect(textOf(plan)).toMatch(/^1 picture → 96x64: 4 steps[\s\S]*result: as "size" says/);
  expect(plan.structuredContent).toMatchObject({ plan: { sizes: { output: { width: 96, height: 64 } } } });
  expect(JSON.stringify(plan)).not.toMatch(/[\ue000-\ue002]/);
  const refused = (await client.callTool({
    name: "plan_edit",
    arguments: { images: ["cat.jpg"], ...args, output: "x.png" },
  })) as CallToolResult;
  expect(textOf(refused)).toMatch(/^"output" is no argument of this tool/);
  expect(folder.names()).toEqual(before);
});

test("list_models says which models are here", async () => {
  const { structuredContent } = (await client.callTool({ name: "list_models", arguments: {} })) as CallToolResult;
  const { models } = structuredContent as { models: { name: string; is_complete: boolean; is_default: boolean }[] };
  expect(models.find(({ name }) => name === "tiny")).toMatchObject({ is_complete: true, is_default: true });
  expect(models.filter(({ is_default }) => is_default)).toHaveLength(1);
  const refused = (await client.callTool({ name: "list_models", arguments: { x: 1 } })) as CallToolResult;
  expect([refused.isError, textOf(refused)]).toEqual([
    true,
    expect.stringMatching(/^"x" is no argument of this tool\nhint: /),
  ]);
});

test("the configuration that the documentation shows starts this server", () => {
  const page = readFileSync(new URL("../../../docs/mcp.md", import.meta.url), "utf8");
  const [, json] = /```json\n([\s\S]*?)```/.exec(page)!;
  expect(JSON.parse(json!)).toEqual({ mcpServers: { qedit: { command: "qedit", args: ["mcp"] } } });
});
