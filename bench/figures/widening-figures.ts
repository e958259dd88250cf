// A weight of a feed-forward layer in fp8, widened to float32: by look-up as in qedit's graphs, beside ONNX Runtime's Cast and PyTorch, on one thread; and by
// two threads, beside one.
import { execFileSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { modelOf } from "../../src/engine/sessions/engine.js";
import { lookedUp } from "../../src/graph/float8.js";
import { Graph } from "../../src/graph/graph.js";
import type { Value } from "../../src/graph/value.js";
import { float32 } from "../../src/std/tensor.js";
import { type Figure, inTurns, type Part, processorSeconds } from "./figure.js";

const SHAPE = [12288, 3072] as const;
const LENGTH = SHAPE[0] * SHAPE[1];
const ROUNDS = 7;
/** NaN, which no weight is. */
const NAN = 0x7f;

const PYTORCH = `
import sys, time
import torch
torch.set_num_threads(1)
weight = torch.randn(${SHAPE.join(", ")}).to(torch.float8_e4m3fn)
def spent():
    start = time.process_time()
    weight.to(torch.float32)
    return time.process_time() - start
spent()
print(sorted(spent() for _ in range(${ROUNDS}))[${ROUNDS} // 2])
`;

/** How the weight is widened. */
type Form = (graph: Graph, file: string) => Value;

const place = (file: string) => ({ file, offset: 0, length: LENGTH });
const FORMS = {
  "look-up": (graph, file) =>
    lookedUp({
      dtype: "f8_e4m3",
      shape: SHAPE,
      bytes: (shape = SHAPE) => graph.external("weight", { dtype: "u8", shape, ...place(file) }),
    }),
  cast: (graph, file) => graph.external("weight", { dtype: "f8_e4m3", shape: SHAPE, ...place(file) }).cast("f32"),
} as const satisfies Record<string, Form>;

/** Widening. */
export const WIDENING: Part = {
  what: "weights in fp8 widened to float32",
  async measure({ python, folder }) {
    const file = join(folder, "weight");
    await writeFile(file, weightBytes());
    await using one = await opened(1, file);
    await using two = await opened(2, file);
    const nanoseconds = (seconds: number) => (seconds / LENGTH) * 1e9;
    const spent = (run: () => Promise<unknown>) => async () => nanoseconds(await processorSeconds(run));
    const wall = (run: () => Promise<unknown>) => async () => {
      const start = performance.now();
      await run();
      return nanoseconds((performance.now() - start) / 1000);
    };
    const pytorch = () => nanoseconds(Number(execFileSync(python!, ["-c", PYTORCH], { encoding: "utf8" })));
    const name = "an element of fp8 widened";
    const [qedit, cast] = await inTurns([spent(one["look-up"]), spent(one.cast)], ROUNDS);
    const [ofTwo, ofOne] = await inTurns([wall(two["look-up"]), wall(one["look-up"])], ROUNDS);
    const figures: Figure[] = [
      { name, unit: "ns", qedit: qedit!, peer: { name: "ONNX Runtime's Cast", value: cast! }, goal: { ratio: 1 } },
      { name: `${name}, by two threads`, unit: "ns", qedit: ofTwo!, peer: { name: "one thread", value: ofOne! } },
    ];
    if (python) {
      const [again, value] = await inTurns([spent(one["look-up"]), pytorch], 1);
      figures.push({
        name: `${name}, beside PyTorch`,
        unit: "ns",
        qedit: again!,
        peer: { name: "PyTorch", value: value! },
      });
    }
    return figures;
  },
};

function weightBytes(): Uint8Array {
  return randomFillSync(new Uint8Array(LENGTH)).map((byte) => ((byte & NAN) === NAN ? byte - 1 : byte));
}

// Both forms, each as a function that widens the weight and gives a row of it.
async function opened(threads: number, file: string) {
  const engine = await directEngine({ provider: "cpu", index: 0, threads });
  const x = float32([1], Float32Array.of(1));
  const openForm = async (form: Form) => {
    const graph = new Graph("widening");
    graph.output(
      "y",
      form(graph, file)
        .slice(0, 0, 1)
        .mul(graph.input("x", "f32", [1])),
    );
    const session = await engine.open(await modelOf(graph, "none"));
    return () => session.run({ x });
  };
  return {
    "look-up": await openForm(FORMS["look-up"]),
    cast: await openForm(FORMS.cast),
    [Symbol.asyncDispose]: () => engine.dispose(),
  };
}
