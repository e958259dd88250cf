// The parts of an edit's processor time: whose threads they are, and whose samples.
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { MAIN_PARTS, type Profile, sharesOf } from "../../bench/profile/profile-parts.js";
import { measureProcess, timesByKind } from "../../bench/profile/thread-times.js";
import { unbundled } from "../../bench/profile/unbundled.js";

const frame = (functionName: string, url = "") => ({
  functionName,
  url: url === "" ? "" : `file:///qedit${url}`,
  lineNumber: 0,
  columnNumber: 0,
});

// drift.js calls native code, guidance.js too; the last sample is of nothing known.
const PROFILE: Profile = {
  nodes: [
    { id: 1, callFrame: frame("(root)"), children: [2, 4, 6, 7] },
    { id: 2, callFrame: frame("measureDrift", "/dist/image/compare/drift.js"), children: [3] },
    { id: 3, callFrame: frame("set") },
    { id: 4, callFrame: frame("guide", "/dist/sampling/guidance.js"), children: [5] },
    { id: 5, callFrame: frame("map") },
    { id: 6, callFrame: frame("(idle)") },
    { id: 7, callFrame: frame("(program)") },
  ],
  samples: [3, 5, 6, 2, 7],
  timeDeltas: [300, 200, 9000, 300, 200],
};

test("a sample belongs to the innermost function of a part, and waiting to none", () => {
  expect(sharesOf(PROFILE, MAIN_PARTS)).toEqual(
    new Map([
      ["measuring drift", 0.6],
      ["noise, guidance and steps", 0.2],
      ["the rest", 0.2],
    ]),
  );
});

test("pictures are what lies in image/ and is not compared", () => {
  const [first, ...others] = PROFILE.nodes;
  const nodes = [first!, { ...others[0]!, callFrame: frame("encodePicture", "/dist/image/io/write.js") }];
  const shares = sharesOf({ nodes, samples: [2], timeDeltas: [1] }, MAIN_PARTS);
  expect([...shares]).toEqual([["pictures: reading, resizing, writing", 1]]);
});

test("a function of the bundle is of the module that it was bundled from", () => {
  const bundle = new URL("../../dist/bundle/", import.meta.url);
  const chunk = readdirSync(bundle).find((name) => {
    const isScript = name.endsWith(".js");
    return isScript && readFileSync(new URL(name, bundle), "utf8").includes("function measureDrift(");
  })!;
  const url = new URL(chunk, bundle);
  const lines = readFileSync(url, "utf8").split("\n");
  const lineNumber = lines.findIndex((line) => line.startsWith("function measureDrift("));
  const callFrame = { functionName: "measureDrift", url: url.href, lineNumber, columnNumber: "function ".length };
  const { nodes } = unbundled({ nodes: [{ id: 1, callFrame }], samples: [], timeDeltas: [] });
  expect(nodes[0]!.callFrame.url).toBe(new URL("../../dist/image/compare/drift.js", import.meta.url).href);
});

test("threads are the main one, V8's, libuv's and libvips', the engine's and those that it started", () => {
  const seen = new Map(
    (["node", "node", "node", "node", "node", "libvips worker"] as const).map((name, index) => [
      String(100 + index),
      { name, nanoseconds: 2 ** index * 1e9 },
    ]),
  );
  const reports = [
    { id: "100", isMainThread: true, running: ["100", "101"] },
    { id: "103", isMainThread: false, running: ["100", "101", "102", "103"] },
  ];
  expect(timesByKind(seen, reports)).toEqual({ main: 1, v8: 2, files: 4 + 32, engine: 8, pool: 16 });
});

test.skipIf(process.platform !== "linux")("threads of a process take nearly all of its time", async () => {
  const busy = "const end = process.cpuUsage().user + 3e5; while (process.cpuUsage().user < end);";
  const { threads, seconds, resident } = await measureProcess(["-e", busy]);
  const all = Object.values(threads).reduce((sum, time) => sum + time, 0);
  expect(threads.main).toBeGreaterThan(0.25);
  expect(all / seconds).toBeGreaterThan(0.8);
  expect(all / seconds).toBeLessThan(1.1);
  expect(resident).toBeGreaterThan(20e6);
});
