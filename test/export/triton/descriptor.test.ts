// The configurations of an export against Triton's own descriptor, which tritonclient has.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ensembleConfig, ensembleOf } from "../../../src/export/triton/ensembles.js";
import { memberConfig } from "../../../src/export/triton/member-config.js";
import { configText, type ModelConfig, parseConfig } from "../../../src/export/triton/model-config.js";
import { modelTensors } from "../../../src/export/triton/tensor-specs.js";
import { editWarmups } from "../../../src/export/triton/warm-up-requests.js";
import { loadTokenizer } from "../../../src/text/tokenizer.js";
import { tinyEdit } from "../../support/edits.js";
import { temporaryFolder } from "../../support/folder.js";
import { pythonWith } from "../../support/python.js";
import { editWidths } from "./edit-widths.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const python = await pythonWith(["tritonclient[grpc]==2.73.0"]);
if ("missing" in python) console.warn(`not run, for want of tritonclient: ${python.missing}`);

/** Reads configurations as Triton does, and prints what they say. */
const READ = `
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
read = lambda path: text_format.Parse(open(path).read(), model_config_pb2.ModelConfig())
json.dump([json_format.MessageToDict(read(path), preserving_proto_field_name=True) for path in sys.argv[1:]], sys.stdout)
`;

const models = modelTensors(editWidths({ promptWidth: 40 }));
const kinds = [1, 2, 3].flatMap((images) => [false, true].map((hasCfg) => ({ images, hasCfg })));

async function configs(): Promise<ModelConfig[]> {
  const { resolved } = await tinyEdit();
  const warmups = editWarmups([...models.values()], { ...resolved, images: 3, gpus: [0] }, await loadTokenizer());
  const placements = [
    { gpus: undefined, memoryLimits: undefined },
    { gpus: [0, 1], memoryLimits: new Map([["sample", 48e9]]) },
  ];
  const members = [...models.values()].flatMap((model) =>
    placements.map((placement) =>
      memberConfig({ ...model, optimization: "none" }, placement, warmups.get(model.name)?.config),
    ),
  );
  const ensembles = kinds.map((kind) => ensembleConfig(ensembleOf(kind, models)));
  // Of an export: JSON, quotes and escapes within quotes.
  const qedit = { string_value: JSON.stringify({ file: 'a "b" \\ c', name: "\\u2013" }) };
  return [...members, ...ensembles].map((config) => ({ ...config, parameters: { ...config.parameters, qedit } }));
}

// Its JSON has 64-bit numbers as texts, and leaves zeros out.
const plain = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return typeof value === "number" ? String(value) : value;
  const entries = Object.entries(value).map(([key, each]) => [key, plain(each)] as const);
  const isKept = (each: unknown) => each !== "0" && each !== "REJECT" && !(Array.isArray(each) && each.length === 0);
  return Object.fromEntries(entries.filter(([, each]) => isKept(each)));
};

test.skipIf("missing" in python)("every configuration says to Triton what was written", async () => {
  const bin = "bin" in python ? python.bin : "";
  const written = await configs();
  const paths = written.map((config, index) => folder.write(`${index}.pbtxt`, configText(config)));
  const { stdout } = await run(join(bin, "python"), [folder.write("read.py", READ), ...paths], { maxBuffer: 2 ** 26 });
  expect(plain(JSON.parse(stdout))).toEqual(plain(written));
});

test("and to qedit itself", async () => {
  for (const config of await configs()) expect(parseConfig(configText(config))).toMatchObject(config);
});
