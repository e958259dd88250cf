// A prompt from a file or a pipe: read as UTF-8 without its last line break, and refused for what it is otherwise.
import { writeFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";
import { done, jsonLines, type Result, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const ENCODE = ["encode-prompt", CAT, ...models({}, ["--text-encoder"]), ...QUICK, "--json"];

const FILES: Readonly<Record<string, string | Uint8Array>> = {
  "plain.txt": "make it red\n",
  "windows.txt": "\ufeffmake it röd\r\n",
  "lines.txt": "make it\nred\n\n",
  "empty.txt": "\n",
  "latin1.txt": Uint8Array.of(0x72, 0xf6, 0x64),
  "utf16.txt": Buffer.from("make it red", "utf16le"),
  "long.txt": "a ".repeat(33_000),
  "dash.txt": "-\n",
};

beforeAll(async () => {
  for (const [name, content] of Object.entries(FILES)) await writeFile(folder.at(name), content);
});

async function promptOf(args: readonly string[], input?: Uint8Array): Promise<string> {
  const { stdout } = await done([...ENCODE, ...args, "--force"], { ...here, ...(input && { input }) });
  return (JSON.parse(stdout) as { info: { settings: { encode_prompt: { prompt: string } } } }).info.settings
    .encode_prompt.prompt;
}

test.each([
  ["plain.txt", "make it red"],
  ["windows.txt", "make it röd"],
  ["lines.txt", "make it\nred\n"],
])("%s is the prompt %j, from the file and from stdin", async (name, prompt) => {
  const input = Buffer.from(FILES[name]!);
  expect(await promptOf(["--prompt-file", name])).toBe(prompt);
  expect(await promptOf(["-p", "-"], input)).toBe(prompt);
  expect(await promptOf(["--prompt-file", "-"], input)).toBe(prompt);
});

test.each([
  ["empty.txt", 2, /empty prompt/],
  ["latin1.txt", 2, /Cannot read the prompt in latin1\.txt: it is not UTF-8 text/],
  ["utf16.txt", 2, /it is not UTF-8 text/],
  ["long.txt", 2, /it has more than 64 kB/],
  ["dash.txt", 2, /stands for stdin/],
  ["nowhere.txt", 1, /Cannot read nowhere\.txt: it does not exist/],
  [".", 1, /it is a folder/],
  ["/dev/zero", 2, /it has more than 64 kB/],
])("%s is refused", async (name, code, message) => {
  const ended = await qedit([...ENCODE.slice(0, -1), "--prompt-file", name, "-o", "never.safetensors"], here);
  expectRefusal(ended, { code, message });
});

test("a prompt and a file of it at once are refused, and neither of them too", async () => {
  const both = ["run", CAT, ...TINY, "-p", "x", "--prompt-file", "plain.txt"];
  expectRefusal(await qedit(both, here), { code: 2, message: /Cannot use --prompt and --prompt-file at once/ });
  expectRefusal(await qedit(["run", CAT, ...TINY], here), { code: 2, message: /No --prompt was given/ });
});

test("run, plan, each and the jobs of a batch take it; a job's is stronger, and beside the file of jobs", async () => {
  const file = ["--prompt-file", "plain.txt"];
  await done(["plan", CAT, ...TINY, ...file], here);
  await done(["run", CAT, ...TINY, ...file, "-o", "run.png"], here);
  await done(["each", CAT, ...TINY, ...file, "-o", "each"], here);
  writeJobs(folder.at("jobs.jsonl"), [
    { images: [CAT], output: "a.png" },
    { images: [CAT], prompt_file: "windows.txt", output: "b.png" },
    { images: [CAT], prompt: "x", "prompt-file": "windows.txt", output: "c.png" },
    { images: [CAT], prompt: "make it blue", output: "d.png" },
  ]);
  const { stdout } = await qedit(["batch", "jobs.jsonl", ...TINY, ...file], here);
  const results = jsonLines<Result>(stdout).sort((a, b) => a.job - b.job);
  expect(results.map(({ status }) => status)).toEqual(["done", "done", "failed", "done"]);
  const { stdout: shown } = await done(["inspect", "run.png", "a.png", "b.png", "d.png"], here);
  expect(shown.match(/prompt: .*/g)).toEqual(
    ["make it red", "make it red", "make it röd", "make it blue"].map((each) => `prompt: ${each}`),
  );
});
