// What a capacity plan changes in the manifests of deploy/k8s, as JSON patches for kustomize.
import type { CapacityPlan, ReplicaGroup } from "./capacity.js";

/** A value of a manifest. */
export interface DeployValue {
  /** The file that has it now. */
  readonly file: string;
  readonly kind: string;
  readonly name: string;
  /** JSON pointer (RFC 6901) of a value that the object has. */
  readonly path: string;
  readonly value: number | string;
}

/** Words before the number in the arguments of the topics' job: kafka topics create --partitions. */
const PARTITIONS = "/spec/template/spec/containers/0/args/4";

/** Values for the sets that the plan is for: base with or without components/keda for whole edits, overlays/per-stage for stages. */
export function deployValues({ groups, partitions }: Pick<CapacityPlan, "groups" | "partitions">): DeployValue[] {
  const topics = { file: "deploy/k8s/components/kafka/topics.yaml", kind: "Job", name: "qedit-topics" };
  return [
    ...groups.flatMap((group) =>
      group.work === "run" ? [...autoscaler(group), ...scaledObject(group)] : scaledObject(group),
    ),
    { ...topics, path: PARTITIONS, value: String(partitions) },
  ];
}

function autoscaler({ minReplicas, replicas, targets }: ReplicaGroup): DeployValue[] {
  // An autoscaler of Kubernetes goes to one at least.
  const least = Math.max(1, minReplicas);
  const object = { file: "deploy/k8s/base/autoscaler.yaml", kind: "HorizontalPodAutoscaler", name: "qedit" };
  return [
    { ...object, path: "/spec/minReplicas", value: least },
    { ...object, path: "/spec/maxReplicas", value: replicas },
    { ...object, path: "/spec/metrics/0/pods/target/averageValue", value: String(targets.queue) },
    // One pod a minute would take hours to a hundred.
    { ...object, path: "/spec/behavior/scaleUp/policies/0/value", value: Math.max(1, replicas - least) },
  ];
}

function scaledObject({ work, minReplicas, replicas, targets }: ReplicaGroup): DeployValue[] {
  const object =
    work === "run"
      ? { file: "deploy/k8s/components/keda/scaled-object.yaml", name: "qedit" }
      : { file: "deploy/k8s/overlays/per-stage/scaled-objects.yaml", name: `qedit-worker-${work}` };
  const of = { ...object, kind: "ScaledObject" };
  return [
    { ...of, path: "/spec/minReplicaCount", value: minReplicas },
    { ...of, path: "/spec/maxReplicaCount", value: replicas },
    { ...of, path: "/spec/triggers/0/metadata/lagThreshold", value: String(targets.lag) },
  ];
}
