// Routing slips: which ways through the stages can be gone, and by which words the others are refused.
import { expect, test } from "vitest";
import { topicsOf } from "../../../src/server/kafka/kafka-topics.js";
import { checkWholeWorkflow, stagesAhead } from "../../../src/server/kafka/workflow.js";

const ALL = ["encode-image", "encode-prompt", "sample", "decode"] as const;
const kinds = (...names: string[]) => names.map((kind) => ({ kind }));

test.each([
  ["all stages", ALL, 0, 2, [], ALL],
  [
    "the prompt first",
    ["encode-prompt", "encode-image", "sample"],
    0,
    1,
    [],
    ["encode-prompt", "encode-image", "sample"],
  ],
  ["an early end", ["encode-image"], 0, 1, [], ["encode-image"]],
  ["a late entry", ["sample", "decode"], 0, 0, ["latents", "cond"], ["sample", "decode"]],
  ["the middle of a way", ALL, 2, 1, ["latents", "cond"], ["sample", "decode"]],
  ["samples alone", ["decode"], 0, 0, ["samples"], ["decode"]],
] as const)("%s can be gone", (_, workflow, cursor, pictures, artifacts, ahead) => {
  const found = stagesAhead({ workflow, cursor }, ahead[0], { pictures, artifacts: kinds(...artifacts) });
  expect(found).toEqual(ahead);
});

test.each([
  ["an unknown stage", ["encode-image", "upscale"], 0, 1, [], /no stage "upscale"/],
  ["a whole edit among stages", ["encode-image", "run"], 0, 1, [], /run is a whole edit/],
  ["a stage twice", ["encode-image", "encode-image"], 0, 1, [], /encode-image stands there twice/],
  ["no pictures", ["encode-image"], 0, 0, [], /encode-image lacks pictures$/],
  [
    "an order that lacks inputs",
    ["encode-image", "sample", "encode-prompt"],
    0,
    1,
    [],
    /sample lacks cond, which encode-prompt makes/,
  ],
  ["samples that nothing made", ["encode-image", "decode"], 0, 1, [], /decode lacks samples, which sample makes/],
  ["something after decode", ["decode", "encode-image"], 0, 1, ["samples"], /nothing is done after decode/],
  ["what is there already", ["encode-image"], 0, 1, ["latents"], /makes latents, which the request has already/],
  ["an unknown kind", ["encode-image"], 0, 1, ["__proto__"], /no kind of artifact "__proto__"/],
  ["a kind twice", ["sample"], 0, 0, ["latents", "latents"], /two artifacts of the kind latents/],
  ["a name of every object", ["encode-image", "constructor"], 0, 1, [], /no stage "constructor"/],
] as const)("%s is refused", (_, workflow, cursor, pictures, artifacts, reason) => {
  const stage = workflow[cursor] as (typeof ALL)[number];
  const go = () => stagesAhead({ workflow, cursor }, stage, { pictures, artifacts: kinds(...artifacts) });
  expect(go).toThrow(reason);
});

test.each([-1, 4, 1])("a cursor of %i that is not at the stage of the topic is refused", (cursor) => {
  const go = () => stagesAhead({ workflow: ALL, cursor }, "encode-image", { pictures: 1, artifacts: [] });
  expect(go).toThrow(`stage ${cursor} is "${ALL[cursor] ?? "nothing"}", and this is the topic of encode-image`);
});

test("whole edits are one stage, or all of them", () => {
  checkWholeWorkflow(["run"]);
  checkWholeWorkflow(ALL);
  checkWholeWorkflow(["encode-prompt", "encode-image", "sample", "decode"]);
  expect(() => checkWholeWorkflow(["encode-image"])).toThrow(/makes no picture/);
  expect(() => checkWholeWorkflow(["sample", "decode"])).toThrow(/sample lacks latents/);
  expect(() => checkWholeWorkflow(["run", "decode"])).toThrow(/run is a whole edit/);
});

test("a worker needs the topics of its stages and of those that may follow", () => {
  const shared = ["qedit.progress.v1", "qedit.retry.v1", "qedit.dlq.v1"];
  const of = (stage: string) => [`qedit.${stage}.request.v1`, `qedit.${stage}.response.v1`];
  expect(topicsOf(["run"])).toEqual([...of("run"), ...shared]);
  expect(topicsOf(["decode", "run"])).toEqual([...of("run"), ...of("decode"), ...shared]);
  expect(topicsOf(["encode-prompt"])).toEqual([...of("encode-prompt"), ...of("sample"), ...of("decode"), ...shared]);
});
