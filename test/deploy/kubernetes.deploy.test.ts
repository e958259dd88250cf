// deploy/k8s by the tools that read such files, and by what none of them sees: names that lead nowhere, flags that do not exist.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { allCommands } from "../../src/cli/commands.js";
import { flagsOf, outputOptions } from "../../src/cli/settings/options.js";
import { ROOT } from "../docs/pages.js";
import { temporaryFolder } from "../support/folder.js";
import {
  builtSets,
  COMPONENTS,
  type Container,
  type Manifest,
  matches,
  OVERLAYS,
  type PodTemplate,
  podsOf,
} from "./manifests.js";
import { DEFINITIONS, faults, type Schema } from "./schema.js";
import { goFile, npmPackage, pythonTools, said } from "./tools.js";

/** Given by the user, as docs/deployment.md says. */
const GIVEN = ["Secret/qedit-api-key"];
const KUBERNETES = "1.35";
/** A package of npm, tried three times. */
const FETCHED_WITHIN = 960_000;

const folder = temporaryFolder();

const sets = await builtSets(folder);
const all = sets.map(({ name, objects }) => [name, objects] as const);
const tools = await pythonTools();
const flags = await flagsByCommand();

test("there is a set for each need", () => {
  expect(OVERLAYS).toEqual(
    expect.arrayContaining(["overlays/single-gpu", "overlays/per-stage", "overlays/hybrid", "overlays/cpu-demo"]),
  );
  expect(COMPONENTS.sort()).toEqual(["gateway", "kafka", "keda", "kserve", "monitoring", "triton"]);
});

describe.each(all)("%s", (name, objects) => {
  test("is valid in every object, with no key that Kubernetes does not know", async () => {
    const file = folder.write(`${name.replaceAll(/\W/g, "-")}.yaml`, sets.find((set) => set.name === name)!.text);
    const { code, stdout, stderr } = await said(join(tools.bin, "kubernetes-validate"), [
      "-k",
      KUBERNETES,
      "--strict",
      file,
    ]);
    expect(code, stdout + stderr).toBe(0);
    const unknown = [...(stdout + stderr).matchAll(/Couldn't find schema for kind (\w+)/g)].map((match) => match[1]!);
    expect(unknown.filter((kind) => !(kind in DEFINITIONS))).toEqual([]);
  });

  test("has each object once, in one namespace", () => {
    const keys = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    expect(keys.filter((key, index) => keys.indexOf(key) !== index)).toEqual([]);
    const outside = objects.filter(({ kind, metadata }) => kind !== "Namespace" && metadata.namespace !== "qedit");
    expect(outside.map(({ metadata }) => metadata.name)).toEqual([]);
  });

  test("selects pods that there are", () => {
    const pods = objects.flatMap((object) => podsOf(object) ?? []);
    const blind = objects.flatMap((object) =>
      selectorsOf(object)
        .filter((selector) => !pods.some(({ metadata }) => matches(selector, metadata.labels)))
        .map((selector) => `${object.kind}/${object.metadata.name}: ${JSON.stringify(selector)}`),
    );
    // A component may serve workers too, which the base has not.
    expect(blind.filter((each) => !each.startsWith("PodMonitor/"))).toEqual([]);
    for (const { kind, spec } of objects.filter(({ kind }) => kind === "Deployment")) {
      const { selector, template } = spec as { selector: unknown; template: PodTemplate };
      expect(matches(selector, template.metadata.labels), kind).toBe(true);
    }
  });

  test("gives each deployment pods of its own", () => {
    const deployments = objects.filter(({ kind }) => kind === "Deployment");
    for (const { metadata, spec } of deployments) {
      const { selector } = spec as { selector: unknown };
      const caught = deployments.filter((other) => matches(selector, podsOf(other)!.metadata.labels));
      expect(caught.map((other) => other.metadata.name)).toEqual([metadata.name]);
    }
  });

  test("refers to nothing that is missing", () => {
    const there = new Set([...GIVEN, ...objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`)]);
    const missing = objects.flatMap((object) => referencesOf(object).filter((each) => !there.has(each)));
    expect(missing).toEqual([]);
  });

  test("names ports that the containers have", () => {
    for (const object of objects) {
      for (const container of podsOf(object)?.spec.containers ?? []) {
        const names = (container.ports ?? []).map((port) => port.name);
        for (const probe of probesOf(container)) expect(names).toContain(probe.httpGet.port);
      }
      if (object.kind !== "Service") continue;
      const { selector, ports } = object["spec"] as { selector: unknown; ports: readonly { targetPort: string }[] };
      const behind = objects.filter(
        (each) => each.kind === "Deployment" && matches(selector, podsOf(each)!.metadata.labels),
      );
      const names = behind.flatMap((each) =>
        podsOf(each)!.spec.containers.flatMap(({ ports = [] }) => ports.map((port) => port.name)),
      );
      for (const { targetPort } of ports) expect(names).toContain(targetPort);
    }
  });

  test("scales each deployment by one autoscaler", () => {
    const targets = objects
      .filter(({ kind }) => kind === "HorizontalPodAutoscaler" || kind === "ScaledObject")
      .map(({ spec }) => (spec as { scaleTargetRef: { name: string } }).scaleTargetRef.name);
    expect(new Set(targets).size).toBe(targets.length);
    const deployments = objects.filter(({ kind }) => kind === "Deployment").map(({ metadata }) => metadata.name);
    expect(targets.filter((target) => !deployments.includes(target))).toEqual([]);
    // A number beside an autoscaler's would be set again each time the manifests are applied.
    const counted = objects.filter(({ kind, spec }) => kind === "Deployment" && "replicas" in (spec as object));
    expect(counted.map(({ metadata }) => metadata.name).filter((name) => targets.includes(name))).toEqual([]);
  });

  test("runs pods as the restricted Pod Security Standard wants, without a token, and of images with a version", () => {
    for (const { spec } of objects.flatMap((object) => podsOf(object) ?? [])) {
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      });
      for (const { image, ...container } of spec.containers) {
        expect(image).toMatch(/^[\w./-]+:[\w.-]*\d[\w.-]*$/);
        expect(container).toMatchObject({
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          resources: {
            requests: { cpu: expect.anything(), memory: expect.anything() },
            limits: { memory: expect.anything() },
          },
        });
      }
      const kinds = (spec.volumes ?? []).flatMap((volume) => Object.keys(volume)).filter((key) => key !== "name");
      expect(["configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret"]).toEqual(
        expect.arrayContaining(kinds),
      );
    }
  });

  test("stops a pod later than qedit stops its job, and waits 15 minutes for its models", () => {
    for (const object of objects.filter(({ kind }) => kind === "Deployment")) {
      const { strategy } = object["spec"] as { strategy: object };
      expect(strategy).toEqual({ type: "Recreate" });
      const { spec } = podsOf(object)!;
      const [container] = spec.containers as [Container];
      const { preStop } = container["lifecycle"] as { preStop: { sleep: { seconds: number } } };
      const grace = container.args!.flatMap(
        (arg) => /^--(?:grace=(\d+)m|exit-timeout-secs=(\d+))$/.exec(arg)?.slice(1) ?? [],
      );
      const seconds = grace[0] ? Number(grace[0]) * 60 : Number(grace[1]);
      expect(seconds).toBeGreaterThanOrEqual(600);
      expect(spec["terminationGracePeriodSeconds"]).toBeGreaterThan(seconds + preStop.sleep.seconds);
      const { startupProbe, readinessProbe, livenessProbe } = container;
      const { periodSeconds, failureThreshold } = startupProbe as Record<string, number>;
      expect(periodSeconds! * failureThreshold!).toBeGreaterThanOrEqual(900);
      expect(readinessProbe).toMatchObject({ httpGet: { path: "/v2/health/ready" } });
      expect(livenessProbe).toMatchObject({ httpGet: { path: "/v2/health/live" } });
    }
  });

  test("gives qedit only commands and flags that it has", () => {
    const containers = objects.flatMap((object) => podsOf(object)?.spec.containers ?? []);
    const ours = containers.filter(({ image }) => image.startsWith("qedit"));
    const unknown = ours.flatMap(({ args = [] }) => unknownFlags(args));
    expect(unknown).toEqual([]);
  });

  test("prepares topics with the brokers and the registry of those that use them", () => {
    const sources = (kind: string) =>
      objects
        .filter((object) => object.kind === kind)
        .flatMap((object) => podsOf(object)!.spec.containers.flatMap(({ envFrom }) => (envFrom ? [envFrom] : [])));
    const [topics] = sources("Job");
    const users = sources("Deployment");
    expect(users.filter((each) => JSON.stringify(each) !== JSON.stringify(topics))).toEqual([]);
  });

  test("has custom resources without an unknown key, as their own definitions say", async () => {
    for (const object of objects.filter(({ kind }) => kind in DEFINITIONS)) {
      const [module, path] = DEFINITIONS[object.kind]!;
      const file = await goFile(module, path);
      if ("missing" in file) {
        console.warn(`${object.kind} was not held against its definition: ${file.missing}`);
        continue;
      }
      expect(faults(object, schemaOf(file.text, object.apiVersion)), object.metadata.name).toEqual([]);
    }
  });
});

test("the check of custom resources refuses unknown keys, wrong types and what is missing", () => {
  const schema: Schema = {
    type: "object",
    required: ["spec"],
    properties: { spec: { type: "object", properties: { count: { type: "integer" } } } },
  };
  expect(faults({ spec: { count: 1, cuont: 2 } }, schema)).toEqual([".spec.cuont: unknown"]);
  expect(faults({ spec: { count: "1" } }, schema)).toEqual([".spec.count: integer is wanted"]);
  expect(faults({}, schema)).toEqual([".spec: missing"]);
});

describe("KEDA's objects", () => {
  const scaled = all.flatMap(([, objects]) => objects.filter(({ kind }) => kind === "ScaledObject"));
  let ScaledObject: new (data: object) => { validate: () => void };
  beforeAll(async () => {
    const place = await npmPackage("@kubernetes-models/keda@2.0.0");
    const module = join(place, "node_modules/@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject.js");
    ({ ScaledObject } = (await import(/* @vite-ignore */ pathToFileURL(module).href)) as {
      ScaledObject: typeof ScaledObject;
    });
  }, FETCHED_WITHIN);

  test("are valid by the package of npm", () => {
    expect(scaled.length).toBeGreaterThan(4);
    for (const object of scaled) expect(() => new ScaledObject(object).validate()).not.toThrow();
    expect(() => new ScaledObject({ metadata: { name: "x" }, spec: { triggers: [] } }).validate()).toThrow();
  });

  test("ask for the lag of a topic and a group that qedit has, and for no more workers than partitions", () => {
    for (const { metadata, spec } of scaled) {
      const { maxReplicaCount, triggers } = spec as {
        maxReplicaCount: number;
        triggers: readonly [{ metadata: Record<string, string> }];
      };
      const stage = metadata.name.replace(/^qedit(-worker-)?/, "");
      expect(triggers[0].metadata).toMatchObject({
        topic: `qedit.${stage || "run"}.request.v1`,
        consumerGroup: stage ? `qedit-${stage}` : "qedit",
      });
      expect(maxReplicaCount).toBeLessThanOrEqual(16);
    }
  });
});

test("the demo needs nothing of the user's: no GPU, no volume, no secret", () => {
  const objects = all.find(([name]) => name === "overlays/cpu-demo")![1];
  expect(objects.filter(({ kind }) => /PersistentVolumeClaim|Job/.test(kind))).toEqual([]);
  expect(JSON.stringify(objects)).not.toMatch(/nvidia|ephemeral":\{"volumeClaim/);
  expect(objects.some(({ kind }) => kind === "Secret")).toBe(true);
});

test("stages are done by four deployments, one each", () => {
  const objects = all.find(([name]) => name === "overlays/per-stage")![1];
  const args = objects.flatMap((object) =>
    object.kind === "Deployment" ? podsOf(object)!.spec.containers.flatMap(({ args: own = [] }) => own) : [],
  );
  const stages = args.flatMap((arg) => /^--stages=(.*)$/.exec(arg)?.[1] ?? []);
  expect(stages.sort()).toEqual(["decode", "encode-image", "encode-prompt", "sample"]);
});

test("the rules of the operator are those of Prometheus", () => {
  const rules = parse(readFileSync(join(ROOT, "deploy/k8s/components/monitoring/rules.yaml"), "utf8")) as {
    spec: unknown;
  };
  expect(rules.spec).toEqual(parse(readFileSync(join(ROOT, "deploy/monitoring/alerts.yml"), "utf8")));
});

interface Probe {
  readonly httpGet: { readonly port: string };
}

function probesOf(container: Container): readonly Probe[] {
  return ["startupProbe", "readinessProbe", "livenessProbe"].flatMap(
    (name) => (container[name] as Probe | undefined) ?? [],
  );
}

// Selectors of pods; of a service monitor, whose labels are those of services.
function selectorsOf({ kind, spec }: Manifest): readonly unknown[] {
  const { selector, podSelector } = (spec ?? {}) as { selector?: unknown; podSelector?: unknown };
  if (kind === "ServiceMonitor" || kind === "PersistentVolumeClaim") return [];
  return [selector, podSelector].filter((each) => each !== undefined);
}

// What an object names of its namespace, as Kind/name.
function referencesOf(object: Manifest): readonly string[] {
  const found: string[] = [];
  const visit = (value: unknown, key: string): void => {
    if (Array.isArray(value)) for (const each of value) visit(each, key);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return;
    const { name, claimName, secretName, optional, kind } = value as Record<string, unknown>;
    if (optional !== true) {
      if (key === "configMap" || key === "configMapRef" || key === "configMapKeyRef") found.push(`ConfigMap/${name}`);
      if (key === "secretRef" || key === "secretKeyRef" || key === "credentials") found.push(`Secret/${name}`);
    }
    if (key === "secret") found.push(`Secret/${secretName}`);
    if (key === "persistentVolumeClaim") found.push(`PersistentVolumeClaim/${claimName}`);
    if (key === "scaleTargetRef") found.push(`${kind ?? "Deployment"}/${name}`);
    if (key === "backendRefs") found.push(`Service/${name}`);
    for (const [below, each] of Object.entries(value)) visit(each, below);
  };
  visit(object["spec"], "spec");
  const account = podsOf(object)?.spec["serviceAccountName"];
  const uri = /"pvc:\/\/([^/"]+)/.exec(JSON.stringify(object))?.[1];
  return [
    ...found,
    ...(account ? [`ServiceAccount/${account}`] : []),
    ...(uri ? [`PersistentVolumeClaim/${uri}`] : []),
  ];
}

function schemaOf(text: string, apiVersion: string): Schema {
  const { spec } = parse(text) as {
    spec: { versions: readonly { name: string; schema: { openAPIV3Schema: Schema } }[] };
  };
  const version = spec.versions.find(({ name }) => apiVersion.endsWith(`/${name}`))!;
  const { properties, ...schema } = version.schema.openAPIV3Schema;
  return { ...schema, properties: { ...properties, metadata: { type: "object" } } };
}

async function flagsByCommand(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const found = new Map<string, ReadonlySet<string>>();
  for (const [name, { options }] of await allCommands()) {
    const longs = Object.entries({ ...options, ...outputOptions }).flatMap(([key, each]) => flagsOf(key, each).longs);
    found.set(name, new Set(longs));
  }
  return found;
}

function unknownFlags(args: readonly string[]): readonly string[] {
  const words = args.filter((_, index) => args.slice(0, index + 1).every((each) => /^[a-z]+$/.test(each)));
  const command = [words.slice(0, 3), words.slice(0, 2), words.slice(0, 1)]
    .map((each) => each.join(" "))
    .find((each) => flags.has(each));
  if (command === undefined) return [`no command ${args.join(" ")}`];
  const own = flags.get(command)!;
  return args.flatMap((arg) => {
    const flag = /^--[a-z-]+/.exec(arg)?.[0];
    return flag === undefined || own.has(flag) ? [] : [`${command} ${flag}`];
  });
}
