// Commands that compute nothing, beside a Node that does nothing; and the smallest edit.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Figure, inTurns, type Part } from "./figure.js";
import { type NodeUsage, nodeUsage, QEDIT } from "./node-usage.js";

const ROUNDS = 15;
const EDITS = 5;
const NOTHING = { name: "node -e 0", run: () => nodeUsage(["-e", "0"]).seconds };
const CAT = fileURLToPath(new URL("../../fixtures/images/cat.jpg", import.meta.url));

/** Commands, and how many times a Node that does nothing they may take. */
const COMMANDS: readonly (readonly [args: readonly string[], goal: number | undefined])[] = [
  [["--version"], undefined],
  [["run", "--help"], 0.11 / 0.06],
  [["models", "list"], 0.11 / 0.06],
];

/** Starts. */
export const START: Part = {
  what: "commands that compute nothing, beside node -e 0",
  async measure() {
    const figures: Figure[] = [];
    for (const [args, goal] of COMMANDS) {
      const [qedit, value] = await inTurns([() => nodeUsage([QEDIT, ...args]).seconds, NOTHING.run], ROUNDS);
      const peer = { name: NOTHING.name, value: value! };
      figures.push({
        name: `qedit ${args.join(" ")}`,
        unit: "s",
        qedit: qedit!,
        peer,
        ...(goal !== undefined && { goal: { ratio: goal } }),
      });
    }
    return figures;
  },
};

/** The embedded model. */
export const TINY: Part = {
  what: "an edit by the embedded model",
  async measure({ folder }) {
    const out = join(folder, "tiny.png");
    const usages: NodeUsage[] = [];
    const edit = () => {
      const usage = nodeUsage([
        QEDIT,
        "run",
        CAT,
        "-p",
        "make it warmer",
        "--model",
        "tiny",
        "--no-cache",
        "--force",
        "-o",
        out,
        "-q",
      ]);
      usages.push(usage);
      return usage.seconds;
    };
    const [seconds] = await inTurns([edit], EDITS);
    const bytes = Math.max(...usages.map((usage) => usage.bytes));
    return [
      { name: "qedit run --model tiny", unit: "s", qedit: seconds! },
      { name: "qedit run --model tiny, resident", unit: "MB", qedit: bytes / 1e6, goal: { value: 320 } },
    ];
  },
};
