// Two blocks of full width on the CPU with quantised weights, beside fp8 and bf16: processor seconds of a run on one thread, and how far the output is
// from that of bf16. npx tsx bench/quantised.ts [--network transformer-2|language-2|vision-2] [--runs N] [--json FILE] [--only NAME]…
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { quantizeFile } from "../src/catalog/local/quantize-file.js";
import type { Checkpoint } from "../src/checkpoint/checkpoint.js";
import { STORED_BYTES } from "../src/checkpoint/checkpoint.js";
import { BLOCK_TYPES } from "../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../src/checkpoint/open.js";
import { repackedLayout } from "../src/checkpoint/packed/packed-layout.js";
import { writeRepacked } from "../src/checkpoint/packed/repack.js";
import { Weights } from "../src/checkpoint/weights.js";
import { directEngine } from "../src/engine/sessions/direct.js";
import { modelOf, type Session } from "../src/engine/sessions/engine.js";
import { Graph } from "../src/graph/graph.js";
import type { Tensors } from "../src/std/tensor.js";
import { F32, sparseGguf } from "../test/support/gguf.js";
import { FILES, NETWORKS } from "./networks.js";
import { randomCheckpoint } from "./random-checkpoint.js";
import { machineFacts, median } from "./report.js";

const { values: options } = parseArgs({
  options: {
    network: { type: "string", default: "transformer-2" },
    runs: { type: "string", default: "5" },
    json: { type: "string" },
    only: { type: "string", multiple: true },
  },
});
const runs = Number(options.runs);
const file = `results/quantised${options.network === "transformer-2" ? "" : `-${options.network}`}.json`;
const json = options.json ?? fileURLToPath(new URL(file, import.meta.url));
const network = NETWORKS[options.network];
if (network?.feeds === undefined) throw new Error(`Cannot quantise "${options.network}": no network that is run`);
const { build, feeds } = network;

/** bf16 is what the others are compared with, fp8 what their time is. */
function isWanted(name: string): boolean {
  return options.only === undefined || ["bf16", "fp8", ...options.only].includes(name);
}

interface Form {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  /** Whether its weights are those of bf16 but for rounding, so that its output can be compared. */
  readonly isRounded: boolean;
}

const folder = await mkdtemp(join(tmpdir(), "qedit-quantised-"));
try {
  const forms = (await allForms()).filter(({ name }) => isWanted(name));
  const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
  const opened = [];
  for (const form of forms) {
    const graph = new Graph(form.name);
    build(graph, Weights.of(graph, form.checkpoint), form.checkpoint);
    const session = await engine.open(await modelOf(graph, "none"));
    opened.push({
      ...form,
      session,
      feeds: feeds(form.checkpoint),
      seconds: [] as number[],
      output: new Float32Array() as Float32Array,
    });
  }
  // In turns, so that changes of the machine's speed are shared.
  for (let run = 0; run < runs; run += 1) {
    for (const each of opened) {
      const { seconds, output } = await timed(each.session, each.feeds);
      each.seconds.push(seconds);
      each.output = output;
    }
  }
  const wanted = opened[0]!.output;
  const base = median(opened.find(({ name }) => name === "fp8")!.seconds);
  const results = opened.map(({ name, checkpoint, isRounded, seconds, output }) => ({
    name,
    bytes: [...checkpoint.tensors.values()].reduce((sum, { length }) => sum + length, 0),
    cpuSeconds: median(seconds),
    ratio: median(seconds) / base,
    error: isRounded ? rootMeanSquare(output, wanted) : null,
  }));
  await writeFile(json, `${JSON.stringify({ machine: machineFacts(), runs, results }, null, 2)}\n`);
  console.table(
    results.map(({ name, bytes, cpuSeconds, ratio, error }) => ({
      weights: name,
      MB: Math.round(bytes / 1e6),
      "CPU s": cpuSeconds.toFixed(2),
      "of fp8": ratio.toFixed(2),
      "output off by": error === null ? "" : `${(error * 100).toPrecision(2)} %`,
    })),
  );
  await engine.dispose();
} finally {
  await rm(folder, { recursive: true });
}

async function allForms(): Promise<Form[]> {
  const { tensors: all, metadata } = FILES[network!.file];
  const tensors = all().filter(({ name }) => !/(\.scale_(weight|input)|^scaled_fp8)$/.test(name));
  const stored = (dtype: "BF16" | "F8_E4M3") => tensors.map((tensor) => ({ ...tensor, dtype }));
  const at = (name: string) => join(folder, `${name}.safetensors`);
  await randomCheckpoint(at("bf16"), stored("BF16"), metadata);
  await randomCheckpoint(at("fp8"), stored("F8_E4M3"), metadata);
  const bf16 = await openCheckpoint(at("bf16"));
  const forms: Form[] = [
    { name: "bf16", checkpoint: bf16, isRounded: true },
    { name: "fp8", checkpoint: await openCheckpoint(at("fp8")), isRounded: true },
  ];
  for (const bits of [8, 4] as const) {
    for (const block of [32, 64, 128] as const) {
      const name = `int${bits}, blocks of ${block}`;
      const path = at(`int${bits}-${block}`);
      await quantizeFile(bf16, path, {
        ...{ bits, block, overwrite: false },
        signal: new AbortController().signal,
        onProgress: () => {},
      });
      forms.push({ name, checkpoint: await openCheckpoint(path), isRounded: true });
    }
  }
  if (network!.file !== "transformer-2") return forms;
  for (const type of ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0"] as const) {
    // Zeros take as long as any numbers.
    const path = await sparseGguf(
      join(folder, `${type}.gguf`),
      { "general.architecture": { text: "qwen_image" } },
      Object.fromEntries(
        tensors.map(({ name, shape }) => {
          const isMatrix = shape.length === 2 && /^transformer_blocks\./.test(name);
          const dtype = isMatrix ? type : "F32";
          const length = shape.reduce((bytes, dim) => bytes * dim, STORED_BYTES[dtype]);
          return [name, { shape, type: isMatrix ? BLOCK_TYPES[type].id : F32, length }];
        }),
      ),
    );
    const layout = repackedLayout(await openCheckpoint(path), at(type));
    const handle = await open(at(type), "w");
    await writeRepacked(handle, layout).finally(() => handle.close());
    forms.push({ name: `GGUF ${type}`, checkpoint: layout.checkpoint, isRounded: false });
  }
  return forms;
}

async function timed(session: Session, feeds: Tensors): Promise<{ seconds: number; output: Float32Array }> {
  const before = process.cpuUsage();
  const [output] = Object.values(await session.run(feeds));
  const { user, system } = process.cpuUsage(before);
  return { seconds: (user + system) / 1e6, output: output!.data as Float32Array };
}

/** Root mean square of the differences over that of what is wanted. */
function rootMeanSquare(found: Float32Array, wanted: Float32Array): number {
  let [difference, size] = [0, 0];
  for (const [index, value] of wanted.entries()) {
    difference += (found[index]! - value) ** 2;
    size += value * value;
  }
  return Math.sqrt(difference / size);
}
