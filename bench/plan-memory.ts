// What `qedit plan` expects of memory on the CPU against what the process of `qedit run` takes, stage by stage: the published widths, two blocks of the
// transformer in several types, two layers of the text encoder, the whole VAE. Linux only; `npm run build` first.
// npx tsx bench/plan-memory.ts [--form fp8]… [--side 512]… [--json FILE]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machineFacts, now } from "./report.js";
import { comparedStages, type StageComparison, type StageMemory } from "./stage-memory.js";
import { FORMS } from "./two-layers.js";

const { values: options } = parseArgs({
  options: {
    form: { type: "string", multiple: true, default: Object.keys(FORMS) },
    side: { type: "string", multiple: true, default: ["512", "1024"] },
    json: { type: "string", default: fileURLToPath(new URL("results/plan-memory.json", import.meta.url)) },
  },
});

const folder = await mkdtemp(join(tmpdir(), "qedit-plan-memory-"));
try {
  const rows: StageComparison[] = [];
  for (const form of options.form) {
    for (const side of options.side.map(Number)) {
      const made = await comparedStages(folder, form, side);
      rows.push(...made);
      console.table(made.map(shown));
    }
  }
  await writeFile(options.json, `${JSON.stringify({ machine: machineFacts(), date: now(), rows }, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true });
}

function shown({ form, side, stage, planned, measured, ratio }: StageComparison): Record<string, string> {
  const gigabytes = ({ ram, mapped }: StageMemory) => `${(ram / 1e9).toFixed(2)} + ${(mapped / 1e9).toFixed(2)}`;
  return {
    form,
    side: `${side}²`,
    stage,
    "planned GB": gigabytes(planned),
    "measured GB": gigabytes(measured),
    ratio: ratio.toFixed(3),
  };
}
