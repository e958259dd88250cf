// An exported edit in the ONNX Runtime that Triton has, read by Triton's own descriptor: each graph is opened by its path, with the optimization of its
// configuration, and the steps of the ensemble follow each other.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { clientInputs, clientNumbers } from "../../../src/edit/remote/client-inputs.js";
import { parseDevice } from "../../../src/engine/providers.js";
import { pairedEngine } from "../../../src/engine/sessions/paired.js";
import { runEnsemble } from "../../../src/export/triton/ensemble-interpreter.js";
import { readPictures } from "../../../src/stages/pictures.js";
import { samplingOf } from "../../../src/stages/sample.js";
import { loadTokenizer } from "../../../src/text/tokenizer.js";
import { models, qedit, workFolder } from "../../cli/qedit.js";
import { tinyEdit } from "../../support/edits.js";
import { fixture } from "../../support/golden.js";
import { pythonWith } from "../../support/python.js";

const run = promisify(execFile);
const folder = workFolder();
const python = await pythonWith(["onnxruntime==1.27.0", "tritonclient[grpc]==2.73.0"]);
if ("missing" in python) console.warn(`not run, for want of onnxruntime 1.27: ${python.missing}`);

/** Runs an ensemble: folder, its name, a file of inputs, a file for the output. */
const RUN = `
import json, sys
import numpy as np, onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
folder, name, inputs, output = sys.argv[1:]
read = lambda model: text_format.Parse(open(f"{folder}/{model}/config.pbtxt").read(), model_config_pb2.ModelConfig())
def opened(config):
    options = onnxruntime.SessionOptions()
    if config.optimization.graph.level == 2:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(f"{folder}/{config.name}/1/model.onnx", options, providers=["CPUExecutionProvider"])
def checked(spec, array):
    dims = list(spec.dims)
    assert len(dims) == array.ndim and all(dim in (-1, size) for dim, size in zip(dims, array.shape)), (spec, array.shape)
    return array
tensors = {name: np.array(each["data"], each["type"]).reshape(each["shape"]) for name, each in json.load(open(inputs)).items()}
ensemble = read(name)
for step in ensemble.ensemble_scheduling.step:
    config = read(step.model_name)
    feeds = {spec.name: checked(spec, tensors[step.input_map[spec.name]]) for spec in config.input}
    session = opened(config)
    for spec, array in zip(config.output, session.run([spec.name for spec in config.output], feeds)):
        tensors[step.output_map[spec.name]] = checked(spec, array)
tensors["image"].tofile(output)
`;

test.skipIf("missing" in python).each([false, true])("an edit of two pictures, with guidance: %j", async (hasCfg) => {
  const bin = "bin" in python ? python.bin : "";
  const args = ["export", "triton", folder.at("repository"), ...models(), "--device", "cpu", "--cfg", "--force", "-q"];
  expect((await qedit(args, { cwd: folder.path })).code).toBe(0);
  const { resolved } = await tinyEdit();
  const edit = {
    pictures: await readPictures(["images/cat.jpg", "images/rocket.jpg"].map(fixture)),
    ...{ prompt: "make it winter", negativePrompt: hasCfg ? "blurry" : undefined },
    sizes: { megapixels: 0.03, size: undefined, match: undefined },
    sampling: samplingOf({ ...resolved.settings, steps: 3, cfg: hasCfg ? 2.5 : 1 }),
  };
  const inputs = clientInputs(edit, clientNumbers(resolved.models), await loadTokenizer());
  const plain = Object.entries(inputs).map(([name, { type, shape, data }]) => {
    return [name, { type, shape, data: Array.from(data as Iterable<number | bigint>, Number) }];
  });
  const name = hasCfg ? "qedit_2_cfg" : "qedit_2";
  const written = [folder.at("repository"), name, folder.at("inputs.json"), folder.at("image.bin")];
  writeFileSync(folder.at("inputs.json"), JSON.stringify(Object.fromEntries(plain)));
  writeFileSync(folder.at("run.py"), RUN);
  await run(join(bin, "python"), [folder.at("run.py"), ...written]);
  const engine = pairedEngine(parseDevice("cpu", 1));
  const signal = new AbortController().signal;
  const { image } = await runEnsemble(name, inputs, { folder: folder.at("repository"), engine, signal });
  await engine.dispose();
  const made = readFileSync(folder.at("image.bin"));
  expect(made).toHaveLength(image!.data.length);
  const most = made.reduce((worst, byte, at) => Math.max(worst, Math.abs(byte - Number(image!.data[at]))), 0);
  expect(most).toBeLessThanOrEqual(1);
});
