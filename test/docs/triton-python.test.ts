// The client in Python of docs/triton.md: the tensors that it makes, against those of qedit.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "vitest";
import { SETTINGS_FILE, TOKENIZER_FILE } from "../../src/export/triton/client-settings.js";
import { readTokenizerJson } from "../../src/text/tokenizer.js";
import { temporaryFolder } from "../support/folder.js";
import { pythonWith } from "../support/python.js";
import {
  EXAMPLES,
  expectInputs,
  type Made,
  NUMBERS,
  PATHS,
  PROMPT,
  smallFiles,
  wantedInputs,
} from "./triton-inputs.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const python = await pythonWith(["numpy==2.2.6", "pillow==11.3.0", "tokenizers==0.22.1"]);
if ("missing" in python) console.warn(`not run, for want of tokenizers: ${python.missing}`);

/** Prints the tensors of an edit as JSON. */
const DUMP = `
import json, sys
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from triton_edit import edit_inputs
folder, prompt, numbers, *paths = sys.argv[1:]
settings = json.load(open(folder + "/qedit.json"))
pictures = [ImageOps.exif_transpose(Image.open(path)) for path in paths]
made = edit_inputs(pictures, prompt, settings, Tokenizer.from_file(folder + "/tokenizer.json"), negative="blurry", **json.loads(numbers))
json.dump({name: {"shape": array.shape, "data": array.flatten().tolist()} for name, array in made.items()}, sys.stdout)
`;

test.skipIf("missing" in python).each([
  ["the embedded model", undefined, "qwen2.5", PATHS],
  ["Qwen-Image-2.1", smallFiles, "qwen3", PATHS],
  ["Qwen-Image-2.1, of a prompt alone", smallFiles, "qwen3", []],
] as const)("the client in Python makes the tensors of an edit by %s", async (_, open, vocabulary, paths) => {
  const bin = "bin" in python ? python.bin : "";
  const models = await open?.(folder.path);
  const { settings, wanted } = await wantedInputs({ ...(models && { models }), paths });
  folder.write(SETTINGS_FILE, settings);
  folder.write(TOKENIZER_FILE, JSON.stringify(await readTokenizerJson(vocabulary)));
  const args = [folder.write("dump.py", DUMP), folder.path, PROMPT, JSON.stringify(NUMBERS), ...paths];
  const env = { ...process.env, PYTHONPATH: EXAMPLES };
  const { stdout } = await run(join(bin, "python"), args, { env, maxBuffer: 2 ** 30 });
  // JPEG decoders differ by single units.
  expectInputs(JSON.parse(stdout) as Record<string, Made>, wanted, { pixels: 0.5, noise: "of the seed" });
});
