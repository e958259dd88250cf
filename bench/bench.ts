// What qedit takes beside its peers, against its goals and the committed baseline: `npm run bench`, half an hour on two cores with PyTorch (README.md).
// npm run bench -- [--only PART]… [--update]: with --update the figures become the baseline.
// QEDIT_BENCH_PYTHON names a Python with torch, diffusers, transformers, numpy and pillow.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Figure, figureTable, type Part, readFigures, updateFigures, worseFigures } from "./figures/figure.js";
import { MESSAGES } from "./figures/message-figures.js";
import { NETWORK_RUNS } from "./figures/network-figures.js";
import { PHOTOGRAPHS } from "./figures/photo-figures.js";
import { START, TINY } from "./figures/start-figures.js";
import { WIDENING } from "./figures/widening-figures.js";
import { findPython } from "./measured-networks.js";
import { machineFacts } from "./report.js";

const PARTS: Readonly<Record<string, Part>> = {
  start: START,
  tiny: TINY,
  messages: MESSAGES,
  widening: WIDENING,
  photographs: PHOTOGRAPHS,
  networks: NETWORK_RUNS,
};
const BASELINE = fileURLToPath(new URL("results/baseline.json", import.meta.url));

const { values: options } = parseArgs({
  options: { only: { type: "string", multiple: true }, update: { type: "boolean", default: false } },
});
const names = options.only ?? Object.keys(PARTS);
const unknown = names.find((name) => !PARTS[name]);
if (unknown !== undefined) throw new Error(`Cannot measure "${unknown}": ${Object.keys(PARTS).join(", ")} are known`);

const python = findPython();
const machine = { ...machineFacts(), ...python?.versions };
const folder = await mkdtemp(join(tmpdir(), "qedit-bench-"));
try {
  const figures: Figure[] = [];
  for (const name of names) {
    process.stderr.write(`${PARTS[name]!.what}\n`);
    figures.push(...(await PARTS[name]!.measure({ python: python?.command, folder })));
  }
  const baseline = readFigures(BASELINE);
  console.log(figureTable(figures, baseline, machine));
  const worse = worseFigures(figures, baseline, machine);
  if (worse.length > 0) console.log(`\nMuch worse than the baseline: ${worse.map(({ name }) => name).join("; ")}`);
  if (options.update) updateFigures(BASELINE, { machine, figures });
} finally {
  await rm(folder, { recursive: true });
}
