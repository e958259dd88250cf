// The examples of docs/serving.md in shell, JavaScript and Python, run against a real server as they stand there, in a folder with photo.jpg.
import { execFile } from "node:child_process";
import { copyFileSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";
import { startServer, type TestServer } from "../support/server.js";
import { fencedBlocks, ROOT } from "./pages.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const page = readFileSync(join(ROOT, "docs/serving.md"), "utf8");
const python = await pythonWith(["openai==3.57.0"]);
if ("missing" in python) console.warn(`not run, for want of Python packages: ${python.missing}`);

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.path });
  copyFileSync(CAT, folder.at("photo.jpg"));
  symlinkSync(join(ROOT, "node_modules"), folder.at("node_modules"));
});
afterAll(() => server.stop("SIGKILL"));

/** The examples of a language that ask the server, with its address. */
function examples(language: string): readonly string[] {
  return fencedBlocks(page, language)
    .filter((block) => block.includes("http://127.0.0.1:8000"))
    .map((block) => block.replaceAll("http://127.0.0.1:8000", server.url));
}

/** Whether a file of the folder is a picture of some size. */
async function isPicture(name: string): Promise<boolean> {
  return ((await sharp(folder.at(name)).metadata()).width ?? 0) > 100;
}

test("in shell", async () => {
  const blocks = examples("sh");
  expect(blocks).toHaveLength(2);
  for (const block of blocks) await run("bash", ["-euc", block], { cwd: folder.path });
  const answer = JSON.parse(readFileSync(folder.at("answer.json"), "utf8")) as {
    data: readonly { b64_json: string }[];
  };
  expect(Buffer.from(answer.data[0]!.b64_json, "base64").subarray(1, 4).toString()).toBe("PNG");
  expect(readFileSync(folder.at("events.txt"), "utf8")).toContain('"state":"completed"');
  expect(await isPicture("winter.png")).toBe(true);
});

test("in JavaScript", async () => {
  for (const block of examples("js")) {
    const script = folder.write("example.mjs", block.replaceAll("winter.png", "js.png"));
    await run(process.execPath, [script], { cwd: folder.path });
  }
  expect(await isPicture("js.png")).toBe(true);
});

test.skipIf("missing" in python)("in Python", async () => {
  for (const block of examples("python")) {
    const script = folder.write("example.py", block.replaceAll("winter.png", "py.png"));
    await run("bin" in python ? join(python.bin, "python") : "", [script], { cwd: folder.path });
  }
  expect(await isPicture("py.png")).toBe(true);
});
