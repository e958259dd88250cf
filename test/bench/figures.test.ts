// Figures of the benchmark: medians of turns, goals, and what they are compared with.
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import {
  changeOf,
  type Figure,
  figureTable,
  inTurns,
  meetsGoal,
  readFigures,
  updateFigures,
  worseFigures,
} from "../../bench/figures/figure.js";
import { nodeUsage } from "../../bench/figures/node-usage.js";
import { machineFacts } from "../../bench/report.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();
const machine = machineFacts();
const beside = (qedit: number, value: number): Figure => ({
  name: "a run",
  unit: "s",
  qedit,
  peer: { name: "x", value },
});
const alone = (qedit: number): Figure => ({ name: "a start", unit: "ms", qedit });

test("sides take turns, the first run of each is left out, and the median is given", async () => {
  const order: string[] = [];
  const numbers = [100, 1, 9, 2];
  const side = (name: string) => () => {
    order.push(name);
    return numbers[order.filter((each) => each === name).length - 1]!;
  };
  expect(await inTurns([side("a"), side("b")], 3)).toEqual([2, 2]);
  expect(order.join("")).toBe("abababab");
});

test("a goal is a part of what the peer takes, or a value", () => {
  expect(meetsGoal({ ...beside(0.9, 1), goal: { ratio: 0.9 } })).toBe(true);
  expect(meetsGoal({ ...beside(1, 1), goal: { ratio: 0.9 } })).toBe(false);
  expect(meetsGoal({ ...alone(1), goal: { ratio: 0.9 } }), "without a peer nobody knows").toBeUndefined();
  expect(meetsGoal({ ...alone(1), goal: { value: 1 } })).toBe(true);
  expect(meetsGoal({ ...alone(2), goal: { value: 1 } })).toBe(false);
  expect(meetsGoal(alone(2))).toBeUndefined();
});

test("ratios are compared with those of any machine, values with those of the same one", () => {
  const baseline = { machine, figures: [beside(1, 2), alone(4)] };
  expect(changeOf(beside(30, 40), baseline, machine)).toBe(1.5);
  expect(changeOf(alone(6), baseline, machine)).toBe(1.5);
  expect(changeOf(alone(6), { ...baseline, machine: { ...machine, cpu: "another" } }, machine)).toBeUndefined();
  expect(changeOf({ ...alone(6), name: "new" }, baseline, machine)).toBeUndefined();
  expect(changeOf(alone(6), undefined, machine)).toBeUndefined();
  expect(worseFigures([beside(30, 40), alone(4.9)], baseline, machine).map(({ name }) => name)).toEqual(["a run"]);
});

test("a table says all of a figure", () => {
  const figures = [
    { ...beside(0.5, 1), goal: { ratio: 0.9 } },
    { ...alone(400), goal: { value: 350 } },
  ];
  const [, , first, second] = figureTable(figures, { machine, figures: [beside(1, 1)] }, machine).split("\n");
  expect(first).toBe("| a run | 0.50 s | x | 1.00 s | 0.50 | 0.90 | yes | 0.50 |");
  expect(second).toBe("| a start | 400 ms |  |  |  | 350 ms | no |  |");
});

test("a baseline keeps the figures that were not measured again, and the versions of their peers", () => {
  const path = folder.at("baseline.json");
  expect([existsSync(path), readFigures(path)]).toEqual([false, undefined]);
  updateFigures(path, { machine: { ...machine, torch: "2.13.0" }, figures: [beside(1, 2), alone(4)] });
  updateFigures(path, { machine, figures: [alone(5)] });
  expect(readFigures(path)).toEqual({ machine: { ...machine, torch: "2.13.0" }, figures: [beside(1, 2), alone(5)] });
});

test("a process says what it took, its threads included; one that fails is named", () => {
  const idle = nodeUsage(["-e", "0"]);
  const work = "const end = process.cpuUsage().user + 200_000; while (process.cpuUsage().user < end);";
  const busy = nodeUsage([
    "-e",
    `new (require("node:worker_threads").Worker)(${JSON.stringify(work)}, { eval: true })`,
  ]);
  expect(busy.seconds - idle.seconds).toBeGreaterThan(0.1);
  expect(idle.bytes).toBeGreaterThan(20e6);
  expect(() => nodeUsage(["-e", "throw new Error('broken')"])).toThrow(/^node -e .* ended with 1: [\s\S]*broken/);
});
