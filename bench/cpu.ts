// Speed and memory of the networks on the CPU, beside PyTorch float32 where a Python with torch, diffusers and transformers
// is found (QEDIT_BENCH_PYTHON, else python3).
// npx tsx bench/cpu.ts [--only NAME]… [--json FILE]: with --only, the other results of the file stay.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findPython, measureNetworks } from "./measured-networks.js";
import { NETWORKS } from "./networks.js";
import { machineFacts, resultTable, withEarlier } from "./report.js";

const { values: options } = parseArgs({
  options: { only: { type: "string", multiple: true }, json: { type: "string" } },
});
const names = options.only ?? Object.keys(NETWORKS);
const json = options.json ?? fileURLToPath(new URL("results/cpu.json", import.meta.url));
const unknown = names.find((name) => !NETWORKS[name]);
if (unknown !== undefined)
  throw new Error(`Cannot measure "${unknown}": ${Object.keys(NETWORKS).join(", ")} are known`);

const python = findPython();
const folder = await mkdtemp(join(tmpdir(), "qedit-bench-"));
try {
  const results = await measureNetworks(names, { python, folder });
  const report = withEarlier({ machine: { ...machineFacts(), ...python?.versions }, results }, json);
  await writeFile(json, `${JSON.stringify(report, null, 2)}\n`);
  console.log(resultTable(report.results));
} finally {
  await rm(folder, { recursive: true });
}
