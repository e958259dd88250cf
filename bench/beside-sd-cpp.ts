// stable-diffusion.cpp and its ggml beside qedit on one thread of the CPU, in turns: products of the transformer's shapes, and two of its blocks at full width.
// npx tsx bench/beside-sd-cpp.ts --peer PROGRAM [--only products|blocks] [--rounds N] [--json FILE]; README.md says how PROGRAM is built.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { BlockTypeName } from "../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../src/checkpoint/open.js";
import { Weights } from "../src/checkpoint/weights.js";
import { graphFlops, lengthsOf } from "../src/edit/plan/graph-cost.js";
import { directEngine } from "../src/engine/sessions/direct.js";
import { modelOf, type Session } from "../src/engine/sessions/engine.js";
import { Graph } from "../src/graph/graph.js";
import { linear } from "../src/models/layers.js";
import { matrixAt } from "../src/models/stored-weight.js";
import { randn } from "../src/sampling/noise/noise.js";
import { float32, type Tensors } from "../src/std/tensor.js";
import { repackedTo } from "../test/support/gguf.js";
import { FILES, NETWORKS } from "./networks.js";
import { type Peer, startPeer } from "./peer.js";
import { randomGguf } from "./random-gguf.js";
import { machineFacts, median, now } from "./report.js";

const { values: options } = parseArgs({
  options: {
    peer: { type: "string" },
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    json: { type: "string", default: fileURLToPath(new URL("results/beside-sd-cpp.json", import.meta.url)) },
  },
});
if (options.peer === undefined)
  throw new Error("Say where the other side is: --peer PROGRAM (bench/README.md says how it is built)");
const program = options.peer;

/** One thread, since the machine may be shared. */
const THREADS = 1;
/** Of the networks' feeds: networks.ts. */
const [SIDE, TEXT] = [512, 200];

const TYPES = ["Q8_0", "Q4_0", "Q4_K"] as const satisfies readonly BlockTypeName[];
const SHAPES = [
  [12288, 3072],
  [3072, 12288],
] as const;
/** Of a picture of 512², and of two with a prompt. */
const TOKENS = [1024, 2248];

interface Row {
  readonly what: string;
  readonly type: string;
  readonly qedit: number;
  readonly other: number;
  /** qedit over the other. */
  readonly ratio: number;
  /** The same of the time for an operation, where one side computes less. */
  readonly perOperation?: number;
  /** Root mean square error of qedit's product; the other side prints its own. */
  readonly error?: number;
}

const folder = await mkdtemp(join(tmpdir(), "qedit-beside-"));
const engine = await directEngine({ provider: "cpu", index: 0, threads: THREADS });
try {
  const rows: Row[] = [];
  if (options.only !== "blocks") for (const type of TYPES) rows.push(...(await products(type)));
  if (options.only !== "products") for (const type of TYPES) rows.push(await blocks(type));
  console.table(rows);
  await writeFile(options.json, `${JSON.stringify({ machine: machineFacts(), date: now(), rows }, null, 2)}\n`);
} finally {
  await engine.dispose();
  await rm(folder, { recursive: true });
}

async function products(type: BlockTypeName): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [out, input] of SHAPES) {
    const weight = { name: "transformer_blocks.0.layer.weight", dtype: "F32" as const, shape: [out, input] };
    const path = await randomGguf(join(folder, "product.gguf"), [weight], type);
    const checkpoint = await repackedTo(join(folder, "product.safetensors"), await openCheckpoint(path));
    const at = (graph: Graph) => Weights.of(graph, checkpoint).at(weight.name.replace(".weight", ""));
    const graph = new Graph("product");
    graph.output("y", linear(graph.input("x", "f32", ["tokens", input]), at(graph)));
    const session = await engine.open(await modelOf(graph, "none"));
    for (const tokens of TOKENS) {
      const x = float32([tokens, input], randn(1, tokens * input));
      await using other = startPeer(program, [
        "product",
        type.toLowerCase().replace("_k", "_K"),
        ...[out, input, tokens, THREADS].map(String),
      ]);
      rows.push({
        ...(await compared(`${tokens} tokens by [${out}, ${input}]`, type, { session, feeds: { x }, other })),
        error: await errorOf(session, x, at),
      });
    }
    await session.dispose();
  }
  return rows;
}

// Against sums in double precision over the numbers that the weights stand for, of some elements.
async function errorOf(
  session: Session,
  x: ReturnType<typeof float32>,
  at: (graph: Graph) => Weights,
): Promise<number> {
  const graph = new Graph("numbers");
  graph.output("numbers", matrixAt(at(graph)));
  const opened = await engine.open(await modelOf(graph, "none"));
  const numbers = (await opened.run({}))["numbers"]!;
  await opened.dispose();
  const [rows, columns] = numbers.shape as [number, number];
  const y = (await session.run({ x }))["y"]!.data as Float32Array;
  let [differences, squares] = [0, 0];
  for (let row = 0; row < rows; row += rows / 64) {
    for (let token = 0; token < 16; token += 1) {
      let sum = 0;
      for (let at = 0; at < columns; at += 1)
        sum += Number(numbers.data[row * columns + at]) * x.data[token * columns + at]!;
      differences += (y[token * rows + row]! - sum) ** 2;
      squares += sum ** 2;
    }
  }
  return Math.sqrt(differences / squares);
}

async function blocks(type: BlockTypeName): Promise<Row> {
  const { build, feeds } = NETWORKS["transformer-2"]!;
  const path = await randomGguf(join(folder, "blocks.gguf"), FILES["transformer-2"].tensors(), type);
  const checkpoint = await repackedTo(join(folder, "blocks.safetensors"), await openCheckpoint(path));
  const graph = new Graph("two blocks");
  build(graph, Weights.of(graph, checkpoint), checkpoint);
  const session = await engine.open(await modelOf(graph, "none"));
  await using other = startPeer(program, ["blocks", path, ...[SIDE, TEXT, THREADS].map(String)]);
  const fed = feeds!(checkpoint);
  const row = await compared(`two blocks, ${SIDE}² and a reference`, type, { session, feeds: fed, other });
  await session.dispose();
  const lengths = lengthsOf(graph, Object.fromEntries(Object.entries(fed).map(([name, { shape }]) => [name, shape])));
  return { ...row, perOperation: (row.ratio * wholeFlops()) / graphFlops(graph, lengths) };
}

// Of both blocks with all that nobody reads of the last one: 24 · 3072² a token, 4 · tokens² · 3072 of attention (README.md).
function wholeFlops(): number {
  const [tokens, width, blockCount] = [2 * (SIDE / 16) ** 2 + TEXT, 3072, 2];
  return blockCount * (24 * width ** 2 * tokens + 4 * tokens ** 2 * width);
}

interface Sides {
  readonly session: Session;
  readonly feeds: Tensors;
  readonly other: Peer;
}

// Processor seconds, one run of each side after the other; the first round is left out.
async function compared(what: string, type: string, { session, feeds, other }: Sides): Promise<Row> {
  const [own, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round <= Number(options.rounds); round += 1) {
    own.push(await processorSeconds(session, feeds));
    theirs.push((await other.ask("run")).processor);
  }
  const [qedit, peer] = [median(own.slice(1)), median(theirs.slice(1))];
  return { what, type, qedit, other: peer, ratio: qedit / peer };
}

async function processorSeconds(session: Session, feeds: Tensors): Promise<number> {
  const before = process.cpuUsage();
  await session.run(feeds);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
