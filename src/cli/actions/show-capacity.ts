// Implements `qedit plan --replicas`: what a rate of edits takes in machines, partitions, autoscaling, store and volume.
import { stat } from "node:fs/promises";
import { publishedModel } from "../../catalog/published/models.js";
import {
  type CapacityRequest,
  type CapacityWork,
  type EditBytes,
  planCapacity,
  type WorkLoad,
} from "../../edit/plan/capacity.js";
import { deployValues } from "../../edit/plan/deploy-values.js";
import type { EditPlan } from "../../edit/plan/edit-plan.js";
import type { NetworkPlan } from "../../edit/plan/stage-plan.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { STREAM } from "../io.js";
import { capacityLines } from "../render/capacity-lines.js";
import type { Terminal } from "../render/terminal.js";
import { type CapacitySettings, capacityOptions, type EditSeconds } from "../settings/capacity-options.js";
import type { GivenSetting } from "../settings/settings.js";

/** A call of `plan` with the options of capacity. */
interface CapacityCall {
  readonly args: readonly string[];
  readonly settings: CapacitySettings & { readonly model: string | undefined };
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Two pictures of 3 MB that give one of 2 MB, where no picture is named: docs/scaling.md. */
const ASSUMED: Pick<EditBytes, "pictures" | "result"> = { pictures: 6e6, result: 2e6 };
/** Their tensor files at a megapixel: three latents and the samples, 16 × 104 × 156, and embeddings of 390 tokens × 3584, float32. */
const ASSUMED_TENSORS = 4 * (4 * 16 * 104 * 156 + 390 * 3584);
/** Of a PNG of a photograph. */
const BYTES_PER_PIXEL = 2;

/** Of the options that a plan without pictures has too. */
const WITHOUT_PICTURES = [...Object.keys(capacityOptions), "model"];

/** Throws QEDIT_E_USAGE for options of capacity without `replicas`, and for a call without pictures that needs them. */
export function refuseUselessCapacity({ args, settings, given }: CapacityCall): void {
  const [first] = Object.keys(capacityOptions).flatMap((name) => given.get(name) ?? []);
  if (!settings.replicas) {
    if (first)
      throw new QeditError("QEDIT_E_USAGE", `Cannot use ${first.name}: it says how many machines to plan`, {
        hint: `Add ${param("replicas")}`,
      });
    if (args.length > 0 || given.has("prompt")) return;
    throw new QeditError("QEDIT_E_USAGE", "Cannot plan an edit without a picture", {
      hint: 'Name one: qedit plan photo.jpg -p "make it winter"',
    });
  }
  if (settings.rate === undefined)
    throw new QeditError("QEDIT_E_USAGE", "Cannot plan replicas without a rate: it says how many edits come", {
      hint: `Add ${param("rate", "120/min")}`,
      parameter: "rate",
    });
  for (const [name, value] of [
    ["wait", settings.wait],
    ["start_time", settings.startTime],
  ] as const) {
    if (value === undefined || (value > 0 && Number.isFinite(value))) continue;
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan replicas with such a ${param(name)}: it has to be above 0 and to end`,
      {
        hint: `Use ${param(name, "90s")}`,
        parameter: name,
      },
    );
  }
  refuseWithoutSeconds({ args, settings, given });
}

function refuseWithoutSeconds({ args, settings: { seconds, perStage }, given }: CapacityCall): void {
  if (perStage && typeof seconds === "number")
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan ${param("per_stage")} with ${param("seconds", seconds)}: the seconds of each stage are wanted`,
      {
        hint: `Name them: ${param("seconds", STAGES.map((stage) => `${stage}=N`).join(","))}, or leave them out where this machine has made the edit`,
        parameter: "seconds",
      },
    );
  // A prompt alone is a picture of a model that generates.
  if (args.length > 0 || given.has("prompt")) return;
  if (seconds === undefined)
    throw new QeditError("QEDIT_E_USAGE", "Cannot plan replicas without the seconds of an edit", {
      hint: `Add ${param("seconds", 12)}, or name a picture of an edit that this machine has made`,
      parameter: "seconds",
    });
  const useless = [...given].find(([name, { isOfCall }]) => isOfCall && !WITHOUT_PICTURES.includes(name));
  if (useless)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${useless[1].name} without a picture: it is the edit's, and none is planned`,
      {
        hint: "Name the pictures of an edit, or leave it out",
      },
    );
}

/** Prints the plan of machines; of the planned edit, if one was. */
export async function showCapacity(
  { args, settings }: CapacityCall,
  edit: EditPlan | undefined,
  terminal: Terminal,
): Promise<void> {
  const { rate, utilization, burst, wait } = settings;
  if (edit && edit.results > 1)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan replicas for edits of ${edit.results} results: the rate counts edits of one`,
      {
        hint: "Leave the seeds out, and multiply the rate",
      },
    );
  if (edit?.elsewhere)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot plan replicas with stages elsewhere: ${Object.keys(edit.elsewhere).join(", ")}`,
      {
        hint: `Leave ${param("remote")} out; ${param("per_stage")} plans machines for each stage`,
      },
    );
  const request: CapacityRequest = {
    rate: rate!,
    utilization,
    burst,
    wait: wait / 1000,
    loads: await workLoads(settings, edit),
    bytes: edit ? await bytesOf(args, edit) : { ...ASSUMED, tensors: ASSUMED_TENSORS },
  };
  const capacity = planCapacity(request);
  const values = deployValues(capacity);
  const isMeasured = settings.seconds === undefined;
  const elsewhere = capacity.groups
    .filter(({ onGpu }) => onGpu !== (edit?.device.name !== "cpu"))
    .map(({ work }) => work);
  if (isMeasured && edit && elsewhere.length > 0)
    terminal.emit({
      kind: "warning",
      text: `The seconds of ${elsewhere.join(", ")} were measured on ${edit.device.name}, and the manifests compute them on ${edit.device.name === "cpu" ? "a GPU" : "the CPU"}: give them with ${param("seconds")}`,
    });
  terminal.result(
    { ...capacity, isMeasured, deploy: values },
    capacityLines(capacity, values, { style: terminal.style, isMeasured, isAssumed: edit === undefined }),
  );
}

async function workLoads(
  { seconds, perStage, startTime, model }: CapacityCall["settings"],
  edit: EditPlan | undefined,
): Promise<WorkLoad[]> {
  const start = startTime === undefined ? undefined : startTime / 1000;
  const weights = edit ? undefined : await publishedWeights(model);
  const of = (work: CapacityWork, stages: readonly StageName[]): WorkLoad => {
    const planned = edit?.stages.filter(({ stage }) => stages.includes(stage as StageName));
    const networks = planned?.flatMap((stage) => stage.networks);
    return {
      work,
      seconds:
        givenSeconds(seconds, stages) ?? measured(networks!, ({ run }) => run) ?? refuseUnmeasured(work, networks!),
      weightBytes: planned
        ? sum(planned.map(({ readBytes }) => readBytes))
        : sum(stages.map((stage) => weights![stage])),
      startSeconds: start ?? (networks && measured(networks, ({ open }) => open)),
    };
  };
  return perStage ? STAGES.map((stage) => of(stage, [stage])) : [of("run", STAGES)];
}

function givenSeconds(seconds: EditSeconds | undefined, stages: readonly StageName[]): number | undefined {
  return typeof seconds === "object" ? sum(stages.map((stage) => seconds[stage])) : seconds;
}

// Undefined where one of the networks has never run here.
function measured(
  networks: readonly NetworkPlan[],
  of: (seconds: NonNullable<NetworkPlan["seconds"]>) => number,
): number | undefined {
  const each = networks.map(({ seconds }) => seconds && of(seconds));
  return each.length === 0 || each.includes(undefined) ? undefined : sum(each as number[]);
}

function refuseUnmeasured(work: CapacityWork, networks: readonly NetworkPlan[]): never {
  const unmeasured = networks.filter(({ seconds }) => seconds === undefined).map(({ network }) => network);
  // Without pictures encode-image runs no network.
  const unknown = unmeasured.length > 0 ? unmeasured : [work];
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot plan replicas by measured seconds: no run of this size on this machine yet of ${unknown.join(", ")}`,
    {
      hint: `Make the edit once with \`qedit run\`, or add ${param("seconds", 12)}`,
      parameter: "seconds",
    },
  );
}

// What a worker of each stage reads; text and pictures are encoded by other files than they are decoded by.
async function publishedWeights(model: string | undefined): Promise<Readonly<Record<StageName, number>>> {
  const { files } = await publishedModel(model);
  return {
    "encode-image": files.vae.bytes / 2,
    "encode-prompt": files.textEncoder.bytes,
    sample: files.transformer.bytes,
    decode: files.vae.bytes / 2,
  };
}

async function bytesOf(
  args: readonly string[],
  { sizes: { output }, totals: { tensorBytes } }: EditPlan,
): Promise<EditBytes> {
  const files = await Promise.all(
    args.map((path) => (path === STREAM ? ASSUMED.pictures / 2 : stat(path).then(({ size }) => size))),
  );
  return {
    pictures: sum(files),
    result: BYTES_PER_PIXEL * output.width * output.height,
    tensors: tensorBytes,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
