// The patches that `qedit plan --replicas` prints, put into overlays as it says and built by kubectl.
import { mkdirSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, test } from "vitest";
import { isOnGpu } from "../../src/edit/plan/capacity.js";
import { qedit } from "../cli/qedit.js";
import { ROOT } from "../docs/pages.js";
import { temporaryFolder } from "../support/folder.js";
import { built, type Manifest, objectsOf } from "./manifests.js";

const K8S = join(ROOT, "deploy/k8s");
const folder = temporaryFolder();
const [base, stages] = [objectsOf(await built("base")), objectsOf(await built("overlays/per-stage"))];

async function patched(
  name: string,
  resources: string,
  components: readonly string[],
  args: readonly string[],
): Promise<readonly Manifest[]> {
  const { stdout } = await qedit(["plan", "--replicas", "--rate", "120/min", ...args], { cwd: folder.path });
  const lines = stdout.split("\n");
  const patches = lines.slice(lines.indexOf("  patches:")).map((line) => line.slice(2));
  const place = folder.at(name);
  mkdirSync(place, { recursive: true });
  const path = (below: string) => relative(place, join(K8S, below));
  folder.write(
    `${name}/kustomization.yaml`,
    `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: qedit
resources: [${path(resources)}]
components: [${components.map((each) => path(`components/${each}`))}]
${patches.join("\n")}`,
  );
  return objectsOf(await built(relative(K8S, place)));
}

const specOf = (objects: readonly Manifest[], kind: string, name: string) =>
  objects.find((each) => each.kind === kind && each.metadata.name === name)!["spec"];

test("reach the autoscaler of the base, or KEDA's and the topics where they are components", async () => {
  const server = await patched("base", "base", [], ["--seconds", "12", "--burst", "60"]);
  expect(specOf(server, "HorizontalPodAutoscaler", "qedit")).toMatchObject({
    minReplicas: 30,
    maxReplicas: 36,
    metrics: [{ pods: { target: { averageValue: "5" } } }],
    behavior: { scaleUp: { policies: [{ value: 6 }] } },
  });
  const scaled = await patched("keda", "base", ["kafka", "keda"], ["--seconds", "12", "--start-time", "20s"]);
  expect(specOf(scaled, "ScaledObject", "qedit")).toMatchObject({
    minReplicaCount: 0,
    maxReplicaCount: 30,
    triggers: [{ metadata: { lagThreshold: "6", topic: "qedit.run.request.v1" } }],
  });
  expect(specOf(scaled, "Job", "qedit-topics")).toMatchObject({
    template: { spec: { containers: [{ args: ["kafka", "topics", "create", "--partitions", "45"] }] } },
  });
});

test("count GPUs as the manifests ask for them", () => {
  const works = ["run", "encode-image", "encode-prompt", "sample", "decode"] as const;
  const wanted = works.map((work) => {
    const [set, name] = work === "run" ? [base, "qedit"] : [stages, `qedit-worker-${work}`];
    return JSON.stringify(specOf(set, "Deployment", name)).includes('nvidia.com/gpu":1');
  });
  expect(works.map(isOnGpu)).toEqual(wanted);
});

test("reach the workers of each stage", async () => {
  const seconds = "encode-image=0.2,encode-prompt=0.5,sample=9,decode=0.4";
  const objects = await patched("stages", "overlays/per-stage", [], ["--per-stage", "--seconds", seconds]);
  const most = ["encode-image", "encode-prompt", "sample", "decode"].map(
    (stage) =>
      (specOf(objects, "ScaledObject", `qedit-worker-${stage}`) as { maxReplicaCount: number }).maxReplicaCount,
  );
  expect(most).toEqual([1, 2, 23, 1]);
});
