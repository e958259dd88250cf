// qedit's side of bench:cpu: opens one network and answers each command on stdin with a line of JSON (see peer.ts).
// tsx bench/qedit.ts NETWORK FILE THREADS
import { createInterface } from "node:readline";
import { readSafetensors } from "../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../src/checkpoint/weights.js";
import { directEngine } from "../src/engine/sessions/direct.js";
import { modelOf } from "../src/engine/sessions/engine.js";
import { affordableOptimization, wideningOf } from "../src/engine/sessions/optimization.js";
import { Graph } from "../src/graph/graph.js";
import { NETWORKS } from "./networks.js";
import type { Answers } from "./peer.js";

const [name, file, threads] = process.argv.slice(2) as [string, string, string];
const network = NETWORKS[name];
if (!network) throw new Error(`internal: no network "${name}"`);

const engine = await directEngine({ provider: "cpu", index: 0, threads: Number(threads) });
const { opened, session, feeds } = await open(network);
for await (const question of createInterface(process.stdin)) {
  if (question === "open") answer<"open">(opened);
  else if (question === "run") answer<"run">(await timed(() => session.run(feeds)));
  else answer<"peak">({ bytes: process.resourceUsage().maxRSS * 1024 });
}
await engine.dispose();

async function open({ build, optimization, feeds }: typeof network & {}) {
  const start = performance.now();
  const checkpoint = await readSafetensors(file);
  const opening = optimization ?? affordableOptimization({ externals: checkpoint.tensors }, engine.device);
  const graph = new Graph(name, { widening: wideningOf(opening, engine.device) });
  build(graph, Weights.of(graph, checkpoint), checkpoint);
  const model = await modelOf(graph, opening);
  const built = performance.now();
  const session = await engine.open(model);
  const opened: Answers["open"] = {
    graph: (built - start) / 1000,
    session: (performance.now() - built) / 1000,
    nodes: graph.nodes.length,
    modelBytes: model.bytes.length,
  };
  return { opened, session, feeds: feeds?.(checkpoint) ?? {} };
}

async function timed(action: () => Promise<unknown>): Promise<Answers["run"]> {
  const [start, processor] = [performance.now(), process.cpuUsage()];
  await action();
  const { user, system } = process.cpuUsage(processor);
  return { seconds: (performance.now() - start) / 1000, processor: (user + system) / 1e6 };
}

function answer<Question extends keyof Answers>(value: Answers[Question]): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
