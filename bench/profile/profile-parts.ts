// What a thread of JavaScript spends its time on, by the files of the functions that Node's sampling profiler (--cpu-prof) saw.

/** A file of --cpu-prof, as far as it is read: https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile */
export interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: Frame;
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

/** A function, by its place in a file: both numbers count from 0. */
export interface Frame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

/** A part, and which frames belong to it. */
export type PartRule = readonly [part: string, matches: (frame: Frame) => boolean];

const from =
  (...paths: readonly string[]) =>
  ({ url }: Frame) =>
    paths.some((path) => url.includes(path));
const called = (name: string) => (frame: Frame) => frame.functionName === name;
const LOADING: PartRule = [
  "finding, reading and linking modules",
  from("node:internal/modules", "node:internal/deps/cjs-module-lexer", "node:internal/bootstrap"),
];
const COLLECTING: PartRule = ["collecting garbage", called("(garbage collector)")];
const BACKEND = "/onnxruntime-node/dist/backend.js";

/** What is left. */
const REST = "the rest";

/** Parts of the main thread; a sample belongs to the first that matches the innermost of its functions that any matches. */
export const MAIN_PARTS: readonly PartRule[] = [
  LOADING,
  COLLECTING,
  ["measuring drift", from("/dist/image/compare/")],
  [
    "pictures: reading, resizing, writing",
    from("/dist/image/", "/dist/stages/pictures.js", "/node_modules/sharp/", "/@img/"),
  ],
  ["noise, guidance and steps", from("/dist/sampling/")],
  [
    "headers, graphs and memory plans",
    from(
      "/dist/graph/",
      "/dist/models/",
      "/dist/checkpoint/",
      "/dist/edit/plan/",
      "/dist/engine/memory/",
      "/dist/stages/networks/",
      "/node_modules/protobufjs/",
    ),
  ],
  ["tokens", from("/dist/text/")],
  [
    "starting the engine, looking for a GPU, messages",
    from("/dist/engine/", "node:internal/worker", "node:internal/child_process"),
  ],
  ["settings and finding files", from("/dist/cli/", "/dist/catalog/", "/dist/edit/", "/node_modules/")],
];

/** Parts of the engine's thread. */
export const ENGINE_PARTS: readonly PartRule[] = [
  ["opening networks", (frame) => from(BACKEND)(frame) && called("OnnxruntimeSessionHandler")(frame)],
  ["closing networks", (frame) => from(BACKEND)(frame) && called("dispose")(frame)],
  ["running networks", from(BACKEND)],
  LOADING,
  COLLECTING,
];

/** The share of each part in the time that the thread was busy, 0..1; what matches no rule is the rest. */
export function sharesOf(profile: Profile, rules: readonly PartRule[]): ReadonlyMap<string, number> {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const partOf = (id: number | undefined): string => {
    if (id === undefined) return REST;
    const { callFrame } = nodes.get(id)!;
    return rules.find(([, matches]) => matches(callFrame))?.[0] ?? partOf(parents.get(id));
  };
  const times = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    if (nodes.get(id)!.callFrame.functionName === "(idle)") return;
    const part = partOf(id);
    times.set(part, (times.get(part) ?? 0) + profile.timeDeltas[index]!);
  });
  const total = [...times.values()].reduce((sum, time) => sum + time, 0);
  return new Map([...times].map(([part, time]) => [part, time / total]));
}
