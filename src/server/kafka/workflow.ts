// The routing slip of a request: the stages that an edit goes through, and which of them it is at. It came in a message, and is not trusted.
import { type ArtifactKind, KINDS } from "../../artifacts/kinds.js";
import { decode } from "../../stages/decode.js";
import { encodeImage } from "../../stages/encode-image.js";
import { encodePrompt } from "../../stages/encode-prompt.js";
import { sample } from "../../stages/sample.js";
import type { StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import { WORK, type Work } from "./kafka-topics.js";

/** Where a job is on its way. */
interface Slip {
  readonly workflow: readonly string[];
  readonly cursor: number;
}

/** What a request has already. */
interface Available {
  readonly pictures: number;
  readonly artifacts: readonly { readonly kind: string }[];
}

/** Each stage makes one kind of artifact, but the last. */
const OUTPUTS: Readonly<Record<StageName, ArtifactKind | "picture">> = {
  "encode-image": encodeImage.output,
  "encode-prompt": encodePrompt.output,
  sample: sample.output,
  decode: decode.output,
};

const INPUTS: Readonly<Record<StageName, readonly string[]>> = {
  "encode-image": Object.keys(encodeImage.inputs),
  "encode-prompt": Object.keys(encodePrompt.inputs),
  sample: Object.keys(sample.inputs),
  decode: Object.keys(decode.inputs),
};

/** The stages that are left, the present one first. Throws QEDIT_E_USAGE for a way that cannot be gone, or that is not at `stage`. */
export function stagesAhead({ workflow, cursor }: Slip, stage: StageName, available: Available): readonly StageName[] {
  if (workflow[cursor] !== stage) {
    const found = workflow[cursor] ?? "nothing";
    throw refused(workflow, `stage ${cursor} is ${shown(found)}, and this is the topic of ${stage}`);
  }
  const stages = knownStages(workflow);
  const there = kindsOf(available, workflow);
  if (available.pictures > 0) there.add("pictures");
  for (const each of stages.slice(cursor)) {
    const lacking = INPUTS[each].find((input) => !there.has(input));
    if (lacking !== undefined) throw refused(workflow, `${each} lacks ${lacking}${madeBy(lacking)}`);
    const output = OUTPUTS[each];
    if (there.has(output)) throw refused(workflow, `${each} makes ${output}, which the request has already`);
    there.add(output);
  }
  const last = stages.indexOf("decode");
  if (last >= 0 && last !== stages.length - 1) throw refused(workflow, "nothing is done after decode");
  return stages.slice(cursor);
}

/** The last stage of a workflow; undefined if it is none. */
export function lastStage({ workflow }: Pick<Slip, "workflow">): Work | undefined {
  return WORK.find((work) => work === workflow.at(-1));
}

/** Throws QEDIT_E_USAGE unless an edit that has nothing but pictures becomes a picture by these stages. */
export function checkWholeWorkflow(workflow: readonly Work[]): void {
  if (workflow.length === 1 && workflow[0] === "run") return;
  const [first] = workflow;
  if (first !== undefined && first !== "run")
    stagesAhead({ workflow, cursor: 0 }, first, { pictures: 1, artifacts: [] });
  else knownStages(workflow);
  if (workflow.at(-1) !== "decode") throw refused(workflow, "it makes no picture: its last stage is not decode");
}

function knownStages(workflow: readonly string[]): readonly StageName[] {
  return workflow.map((name, index) => {
    if (name === "run") throw refused(workflow, "run is a whole edit, and goes with no other stage");
    if (!Object.hasOwn(OUTPUTS, name)) throw refused(workflow, `there is no stage ${shown(name)}`);
    if (workflow.indexOf(name) !== index) throw refused(workflow, `${name} stands there twice`);
    return name as StageName;
  });
}

function kindsOf({ artifacts }: Available, workflow: readonly string[]): Set<string> {
  const kinds = new Set<string>();
  for (const { kind } of artifacts) {
    if (!Object.hasOwn(KINDS, kind)) throw refused(workflow, `there is no kind of artifact ${shown(kind)}`);
    if (kinds.has(kind)) throw refused(workflow, `there are two artifacts of the kind ${kind}`);
    kinds.add(kind);
  }
  return kinds;
}

function madeBy(input: string): string {
  const maker = (Object.keys(OUTPUTS) as StageName[]).find((stage) => OUTPUTS[stage] === input);
  return maker === undefined ? "" : `, which ${maker} makes`;
}

function shown(text: string): string {
  return `"${text.slice(0, 60)}"`;
}

function refused(workflow: readonly string[], reason: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot go the workflow [${workflow.join(", ").slice(0, 200)}]: ${reason}`, {
    hint: "Go through encode-image, encode-prompt, sample and decode, or a part of them; the cursor is 0 at first",
  });
}
