// `qedit plan --replicas`: machines for a rate, by given and by measured seconds, and what it refuses.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import type { CapacityPlan } from "../../src/edit/plan/capacity.js";
import type { DeployValue } from "../../src/edit/plan/deploy-values.js";
import type { EditPlan } from "../../src/edit/plan/edit-plan.js";
import { ROOT } from "../docs/pages.js";
import { CAT, expectRefusal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path, env: { QEDIT_HOME: folder.at("home") } };
const RATE = ["plan", "--replicas", "--rate", "120/min"];
const STAGES = "encode-image=0.2,encode-prompt=0.5,sample=9,decode=0.4";
const EDIT = [CAT, "-p", "make it winter", "--megapixels", "0.05", "--steps", "2", ...models(), ...QUICK];

async function planned<T = CapacityPlan & { deploy: readonly DeployValue[] }>(args: readonly string[]): Promise<T> {
  const ended = await qedit([...args, "--json"], here);
  expect(ended.code, ended.stderr).toBe(0);
  return JSON.parse(ended.stdout) as T;
}

describe("a plan of machines", () => {
  test("for people names replicas, waits, partitions, store, starts and patches", async () => {
    const { stdout, code } = await qedit([...RATE, "--seconds", "12", "--burst", "60", "--start-time", "2m"], here);
    expect(code).toBe(0);
    for (const part of [
      /^2\/s at 12 s each: 36 GPUs, 54 partitions; sustains 2\.4\/s at 80 % busy, 3\/s at most$/m,
      /^ {2}run {2}12 +36 +a GPU +67 % {2}burst +2\.4\/s$/m,
      /burst of 60 gone in/,
      /qedit kafka topics create --partitions 54$/m,
      /16\.00 MB\/s read, 16\.00 MB\/s written, 2\/s results/,
      /a start takes 2 min 0 s, reads 30\.07 GB; 240 edits come meanwhile; longer than the wait: keep 30 up/,
      /path: \/spec\/triggers\/0\/metadata\/lagThreshold, value: "6"/,
    ])
      expect(stdout).toMatch(part);
  });

  test.each([
    ["whole edits", ["--seconds", "12"], 4],
    ["single stages", ["--per-stage", "--seconds", STAGES], 5],
  ])("for %s gives values that the manifests have, by files and paths that exist", async (_, args, objects) => {
    const { deploy } = await planned([...RATE, ...args]);
    expect(new Set(deploy.map(({ kind, name }) => `${kind}/${name}`)).size).toBe(objects - (objects === 4 ? 1 : 0));
    for (const { file, kind, name, path, value } of deploy) {
      const found = parseAllDocuments(readFileSync(join(ROOT, file), "utf8"))
        .map((each) => each.toJS() as Record<string, unknown>)
        .find((each) => each["kind"] === kind && (each["metadata"] as { name: string }).name === name);
      expect(typeof valueAt(found, path), `${file} ${path}`).toBe(typeof value);
    }
    const partitions = deploy.at(-1)!;
    const [job] = parseAllDocuments(readFileSync(join(ROOT, partitions.file), "utf8")).map((each) => each.toJS());
    expect(valueAt(job, partitions.path.replace(/4$/, "3"))).toBe("--partitions");
  });

  test("is the same by seconds of each stage, summed up, as by those of the whole", async () => {
    const [whole, summed] = [
      await planned([...RATE, "--seconds", "10.1"]),
      await planned([...RATE, "--seconds", STAGES]),
    ];
    expect(summed.gpus).toBe(whole.gpus);
    const { groups } = await planned([...RATE, "--seconds", STAGES, "--per-stage"]);
    expect(groups.map(({ work, replicas }) => [work, replicas])).toEqual([
      ["encode-image", 1],
      ["encode-prompt", 2],
      ["sample", 23],
      ["decode", 1],
    ]);
  });

  test("takes the seconds, weights and bytes of an edit that this machine has made", async () => {
    expectRefusal(await qedit([...RATE, ...EDIT], here), {
      code: 2,
      message: /no run of this size on this machine yet of vae-encoder/,
      hint: /--seconds 12/,
    });
    const ran = await qedit(["run", ...EDIT, "-o", "out.png"], here);
    expect(ran.code, ran.stderr).toBe(0);
    const edit = await planned<EditPlan>(["plan", ...EDIT]);
    const { groups, store } = await planned([...RATE, ...EDIT]);
    const networks = edit.stages.flatMap((stage) => stage.networks);
    const total = (of: (network: (typeof networks)[number]) => number) =>
      networks.reduce((sum, each) => sum + of(each), 0);
    expect(groups).toHaveLength(1);
    expect(groups[0]!.seconds).toBeCloseTo(total(({ seconds }) => seconds!.run));
    expect(groups[0]!.startSeconds).toBeCloseTo(total(({ seconds }) => seconds!.open));
    expect(groups[0]!.weightBytes).toBe(edit.totals.readBytes);
    expect(store.ofEdit.pictures).toBe(statSync(CAT).size);
    const split = await planned([...RATE, ...EDIT, "--per-stage"]);
    const { stderr } = await qedit([...RATE, ...EDIT, "--per-stage"], here);
    expect(stderr).toMatch(/The seconds of encode-prompt, sample were measured on cpu/);
    expect(split.groups.map(({ weightBytes }) => weightBytes)).toEqual(edit.stages.map(({ readBytes }) => readBytes));
    expect(split.store.ofEdit.tensors).toBeGreaterThan(0);
  });

  test.each([
    [/Cannot use --rate: it says how many machines to plan/, ["--rate", "2/s"], /--replicas/],
    [/Cannot plan an edit without a picture/, [], /qedit plan photo\.jpg/],
    [/Cannot plan replicas without a rate/, ["--replicas"], /--rate 120\/min/],
    [/Cannot use "2" for --rate: a rate such as 2\/s/, ["--replicas", "--rate", "2"], /./],
    [/Cannot use "0\/s" for --rate/, ["--replicas", "--rate", "0/s"], /./],
    [/without the seconds of an edit/, ["--replicas", "--rate", "2/s"], /--seconds 12/],
    [/Cannot use "0" for --seconds/, ["--replicas", "--rate", "2/s", "--seconds", "0"], /./],
    [/Cannot use "sample=3" for --seconds/, ["--replicas", "--rate", "2/s", "--seconds", "sample=3"], /./],
    [/for --seconds/, ["--replicas", "--rate", "2/s", "--seconds", `${STAGES},decode=3`], /./],
    [
      /the seconds of each stage are wanted/,
      ["--replicas", "--rate", "2/s", "--seconds", "3", "--per-stage"],
      /sample=N/,
    ],
    [/such a --wait/, ["--replicas", "--rate", "2/s", "--seconds", "3", "--wait", "0"], /--wait 90s/],
    [
      /such a --start-time/,
      ["--replicas", "--rate", "2/s", "--seconds", "3", "--start-time", "forever"],
      /--start-time 90s/,
    ],
    [
      /Cannot use --steps without a picture/,
      ["--replicas", "--rate", "2/s", "--seconds", "3", "--steps", "8"],
      /leave it out/,
    ],
    [
      /No picture was given/,
      ["--replicas", "--rate", "2/s", "--seconds", "3", "-p", "a fox"],
      /let a model make one of the prompt alone: --model qwen-image-2\.1/,
    ],
    [/Cannot use "1" for --utilization/, ["--replicas", "--rate", "2/s", "--seconds", "3", "--utilization", "1"], /./],
    [/Cannot plan 37499997 replicas/, ["--replicas", "--rate", "9999999/s", "--seconds", "3"], /Lower --rate/],
    [/edits of 2 results/, ["--replicas", "--rate", "2/s", ...EDIT, "--count", "2"], /multiply the rate/],
    [
      /stages elsewhere: sample/,
      ["--replicas", "--rate", "2/s", CAT, "-p", "x", "--model", "tiny", "--remote", "sample=grpc://gpu-1:8001"],
      /--per-stage/,
    ],
  ])("is refused with %s", async (message, args, hint) => {
    expectRefusal(await qedit(["plan", ...args], here), { code: 2, message, hint });
  });
});

function valueAt(object: unknown, path: string): unknown {
  return path
    .split("/")
    .slice(1)
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], object);
}
