// Networks of the published widths with few layers and random weights, on the CPU, against diffusers and transformers in float32 with the
// same weights. Prints a table; exits with 1 if an error exceeds its tolerance.
// npx tsx bench/full-width.ts [--only NAME]…, with QEDIT_BENCH_PYTHON naming a Python with torch, diffusers and transformers.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { BlockTypeName } from "../src/checkpoint/gguf/block-types.js";
import { writeSafetensors } from "../src/checkpoint/safetensors/safetensors-writer.js";
import { directEngine } from "../src/engine/sessions/direct.js";
import type { DType } from "../src/graph/types.js";
import { randomGguf } from "./full-width/random-gguf.js";
import { FULL_WIDTH, type FullWidth, runIn } from "./full-width/runs.js";
import type { RelativeErrors } from "./gpu/results.js";
import { worse } from "./gpu/targets.js";
import { FILES } from "./networks.js";
import { randomCheckpoint } from "./random-checkpoint.js";
import { roundedEngine } from "./rounded-engine.js";

/** Largest errors by type: sums in another order, and roundings of 2^-11 and 2^-9. */
const MOST_ERROR: Readonly<Partial<Record<DType, number>>> = { f32: 2e-5, f16: 5e-3, bf16: 2e-2 };
/** Of quantised weights in float32: offsets of blocks are multiplied apart from what they are added to. */
const MOST_QUANTISED_ERROR = 1e-4;

const { values: options } = parseArgs({ options: { only: { type: "string", multiple: true } } });
const unknown = options.only?.find((name) => !FULL_WIDTH.some((each) => each.name.startsWith(name)));
if (unknown !== undefined)
  throw new Error(
    `Cannot compare "${unknown}": ${FULL_WIDTH.map(({ name }) => name).join("; ")} are known, by how they begin`,
  );
const networks = FULL_WIDTH.filter(
  ({ name }) => options.only === undefined || options.only.some((only) => name.startsWith(only)),
);

const folder = await mkdtemp(join(tmpdir(), "qedit-width-"));
const engine = await directEngine({ provider: "cpu", index: 0, threads: 0 });
// Repacked weights go with the folder.
process.env["QEDIT_HOME"] = folder;
const written = new Map<string, string>();
let isRight = true;
try {
  console.log("| network | way | type | root mean square | largest | at most |\n|---|---|---|---:|---:|---:|");
  for (const network of networks) await compare(network);
} finally {
  await engine.dispose();
  await rm(folder, { recursive: true });
}
process.exit(isRight ? 0 : 1);

async function compare(network: FullWidth): Promise<void> {
  const { name, file, quantised, ways, inputs } = network;
  const path = await (quantised === undefined ? checkpointFile(file) : quantisedFile(quantised));
  const results: Record<string, string> = {};
  for (const way of ways) {
    process.stderr.write(`${name}: ${way.name}, ${way.compute}\n`);
    const result = await runIn(way, network, { path, engine: way.compute === "f32" ? engine : roundedEngine(engine) });
    results[way.name] = join(folder, `${way.name.replaceAll(" ", "-")}.safetensors`);
    await writeSafetensors(results[way.name]!, { result });
  }
  const given = join(folder, "inputs.safetensors");
  await writeSafetensors(given, (await inputs(path)) as never);
  process.stderr.write(`${name}: PyTorch\n`);
  const errors = python({ network: name.split(",")[0]!, checkpoint: path, inputs: given, results });
  for (const { name: way, compute } of ways) {
    const found = errors[way]!;
    const most = quantised === undefined ? MOST_ERROR[compute]! : MOST_QUANTISED_ERROR;
    isRight &&= worse(found) <= most;
    const text = (error: number | null) => error?.toExponential(1) ?? "no number";
    console.log(
      `| ${name} | ${way} | ${compute} | ${text(found.rms)} | ${text(found.largest)} | ${most.toExponential(0)}${worse(found) <= most ? "" : ", exceeded"} |`,
    );
  }
}

async function checkpointFile(name: keyof typeof FILES): Promise<string> {
  const path = written.get(name) ?? join(folder, `${name}.safetensors`);
  const { tensors, metadata } = FILES[name];
  if (!written.has(name)) await randomCheckpoint(path, tensors(), metadata);
  written.set(name, path);
  return path;
}

async function quantisedFile(type: BlockTypeName): Promise<string> {
  const path = join(folder, `transformer-${type}.gguf`);
  await randomGguf(path, type);
  return path;
}

interface Request {
  readonly network: string;
  readonly checkpoint: string;
  readonly inputs: string;
  /** Files with qedit's results, by the way they were computed. */
  readonly results: Readonly<Record<string, string>>;
}

function python(request: Request): Readonly<Record<string, RelativeErrors>> {
  const command = process.env["QEDIT_BENCH_PYTHON"] ?? "python3";
  const script = fileURLToPath(new URL("full_width.py", import.meta.url));
  const { status, stdout, stderr, error } = spawnSync(command, [script, JSON.stringify(request)], { encoding: "utf8" });
  if (status !== 0)
    throw new Error(
      `${command} bench/full_width.py failed: ${error?.message ?? stderr}; QEDIT_BENCH_PYTHON names a Python with torch, diffusers and transformers`,
    );
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Record<string, RelativeErrors>;
}
