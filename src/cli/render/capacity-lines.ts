// Formats a plan of machines as text.
import type { CapacityPlan, ReplicaGroup } from "../../edit/plan/capacity.js";
import type { DeployValue } from "../../edit/plan/deploy-values.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { secondsText, table } from "./plan-lines.js";
import type { Style } from "./style.js";

interface Shown {
  readonly style: Pick<Style, "bold">;
  readonly isMeasured: boolean;
  /** Whether the bytes of an edit are those of an example. */
  readonly isAssumed: boolean;
}

/** The lines of a plan of machines, and of the values that it gives the manifests. */
export function capacityLines(
  plan: CapacityPlan,
  values: readonly DeployValue[],
  { style, isMeasured, isAssumed }: Shown,
): string[] {
  const section = (title: string, lines: readonly string[]) => [
    "",
    style.bold(title),
    ...lines.map((line) => `  ${line}`),
  ];
  const { replicas, gpus, groups, partitions } = plan;
  const machines =
    replicas === gpus ? counted(gpus, "GPU") : `${counted(replicas, "replica")}, ${counted(gpus, "GPU")}`;
  return [
    `${rateText(plan.rate)} ${groups.length === 1 ? `at ${secondsText(groups[0]!.seconds)} each` : "over four stages"}${isMeasured ? ", as earlier runs here went" : ""}: ${machines}, ${counted(partitions, "partition")}; sustains ${rateText(plan.sustains)} at ${percent(plan.utilization)} busy, ${rateText(plan.most)} at most`,
    ...section("Replicas", replicaLines(groups)),
    ...section("Waiting", waitingLines(plan)),
    ...section("Kafka", [
      `${counted(partitions, "partition")} of each request topic: qedit kafka topics create --partitions ${partitions}`,
    ]),
    ...section("Store", storeLines(plan, isAssumed)),
    ...section("Starting", startingLines(plan)),
    ...section("Kubernetes: patches of an overlay's kustomization.yaml", patchLines(values)),
  ];
}

const REASONS: Readonly<Record<ReplicaGroup["bound"], string>> = {
  utilization: "busy share",
  wait: "wait",
  burst: "burst",
};

function replicaLines(groups: readonly ReplicaGroup[]): string[] {
  return table([
    ["", "seconds", "replicas", "on", "busy", "set by", "sustains"],
    ...groups.map(({ work, seconds, replicas, onGpu, busy, bound, sustains }) => [
      work,
      String(rounded(seconds)),
      String(replicas),
      onGpu ? "a GPU" : "CPU",
      percent(busy),
      REASONS[bound],
      rateText(sustains),
    ]),
  ]);
}

function waitingLines({ groups, burst, wait }: CapacityPlan): string[] {
  return [
    ...table([
      ["", "wait at all", "mean", "95 % within", ...(burst > 0 ? [`burst of ${burst} gone in`] : [])],
      ...groups.map(({ work, waiting, burstSeconds }) => [
        work,
        percent(waiting.share),
        secondsText(waiting.mean),
        secondsText(waiting.wait95),
        ...(burstSeconds === undefined ? [] : [secondsText(burstSeconds)]),
      ]),
    ]),
    `wanted: within ${secondsText(wait)}; by the queue M/M/c, in which seconds vary more than those of edits: they wait less`,
  ];
}

function storeLines(
  { store: { picturesPerSecond, reads, writes, bytesPerDay, ofEdit } }: CapacityPlan,
  isAssumed: boolean,
): string[] {
  const { pictures, result, tensors } = ofEdit;
  const between = tensors > 0 ? `, ${decimalSize(tensors)} of tensors between stages` : "";
  return [
    `an edit${isAssumed ? ", for example" : ""}: ${decimalSize(pictures)} of pictures, ${decimalSize(result)} of result${between}`,
    `${decimalSize(reads)}/s read, ${decimalSize(writes)}/s written, ${rateText(picturesPerSecond)} results, ${decimalSize(bytesPerDay)} if all is kept for a day`,
  ];
}

function startingLines({ groups, volume, wait }: CapacityPlan): string[] {
  const lines = groups.map(({ work, startSeconds, editsWhileStarting, minReplicas, weightBytes }) => {
    const reads = weightBytes === undefined ? "" : `, reads ${decimalSize(weightBytes)}`;
    if (startSeconds === undefined)
      return `${work}: how long a start takes is not known${reads}; keep ${minReplicas} up`;
    const verdict =
      startSeconds <= wait ? "within the wait: none has to be kept up" : `longer than the wait: keep ${minReplicas} up`;
    return `${work}: a start takes ${secondsText(startSeconds)}${reads}; ${rounded(editsWhileStarting!)} edits come meanwhile; ${verdict}`;
  });
  const { bytes, atOnce, least } = volume;
  if (bytes === undefined) return lines;
  const fast = atOnce === undefined ? "" : `${decimalSize(atOnce)}/s for each as fast as one alone, `;
  return [
    ...lines,
    `volume: ${decimalSize(bytes)} when all start at once: ${fast}${decimalSize(least!)}/s at least for the startup probe of 15 min`,
  ];
}

// A target that an overlay lacks is no error to kustomize: either autoscaler may be there.
function patchLines(values: readonly DeployValue[]): string[] {
  const objects = new Map(values.map((value) => [`${value.kind}/${value.name}`, value]));
  return [
    "patches:",
    ...[...objects].flatMap(([key, { file, kind, name }]) => [
      `  - target: { kind: ${kind}, name: ${name} }  # ${file}`,
      "    patch: |-",
      ...values
        .filter((value) => `${value.kind}/${value.name}` === key)
        .map(({ path, value }) => `      - { op: replace, path: ${path}, value: ${JSON.stringify(value)} }`),
    ]),
  ];
}

function rateText(perSecond: number): string {
  if (perSecond >= 1) return `${rounded(perSecond)}/s`;
  if (perSecond * 60 >= 1) return `${rounded(perSecond * 60)}/min`;
  return perSecond * 3600 >= 1 ? `${rounded(perSecond * 3600)}/h` : `${rounded(perSecond * 86_400)}/day`;
}

function percent(share: number): string {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${share < 0.01 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
}

function rounded(value: number): number {
  return Number(value < 1000 ? value.toPrecision(3) : value.toFixed(0));
}

function counted(count: number, one: string): string {
  return `${count} ${count === 1 ? one : `${one}s`}`;
}
