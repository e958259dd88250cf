// deploy/k8s by judges that Go takes minutes to build: kubeconform, kube-score, and KEDA's own types. What kube-score wants and is not followed stands here with its reason.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ROOT } from "../docs/pages.js";
import { missing } from "../support/fetched-folder.js";
import { temporaryFolder } from "../support/folder.js";
import { builtProgram, builtTool } from "../support/go-tools.js";
import { builtSets, type Manifest } from "./manifests.js";
import { DEFINITIONS, type Schema } from "./schema.js";
import { goFile, kubectl, pythonTools, said } from "./tools.js";

const KUBERNETES = "1.35.0";
/** Go's programs start in milliseconds, but several sets are read. */
const WITHIN = 300_000;

/** What kube-score wants and is not followed: its check, the objects, and why. */
const NOT_FOLLOWED: readonly (readonly [check: string, objects: RegExp, reason: string])[] = [
  [
    "container-image-pull-policy",
    /./,
    "images are named by version or digest: pulling one again brings nothing, and clusters without a registry have it loaded",
  ],
  [
    "container-security-context-user-group-id",
    /./,
    "the image's user is 1000, as is the owner of volumes that other tools fill",
  ],
  ["deployment-strategy", /^Deployment\//, "Recreate: a pod more would wait for a GPU that the old one has"],
  ["deployment-replicas", /^Deployment\/(qedit|triton)$/, "one GPU, or a demo; the number is the user's"],
  [
    "horizontalpodautoscaler-replicas",
    /^HorizontalPodAutoscaler\/qedit$/,
    "one GPU at least; the number is the user's",
  ],
  [
    "deployment-has-host-podantiaffinity",
    /^Deployment\/qedit(-worker|$)/,
    "pods are spread by topologySpreadConstraints, which kube-score does not read; a GPU each keeps them apart as well",
  ],
];

const folder = temporaryFolder();
const kustomize = await kubectl().then(() => undefined, missing);
if (kustomize) console.warn(`deploy/k8s was not judged, for want of kubectl: ${kustomize.missing}`);
const sets = kustomize ? [] : await builtSets(folder);
const file = (name: string, ofSet: string) => folder.write(`${name.replaceAll(/\W/g, "-")}.yaml`, ofSet);

describe.skipIf(kustomize)("kubeconform", () => {
  test("accepts every object, and refuses an unknown key", { timeout: WITHIN }, async ({ skip }) => {
    const tool = await builtTool("kubeconform");
    if ("missing" in tool) return skip(`kubeconform was not run: ${tool.missing}`);
    const schemas = await schemaFolder();
    if ("missing" in schemas) return skip(`kubeconform was not run: ${schemas.missing}`);
    const judged = (path: string) =>
      said(join(tool.bin, "kubeconform"), [
        ...["-strict", "-output", "json", "-summary", "-kubernetes-version", KUBERNETES],
        ...["-schema-location", join(schemas.path, "{{.ResourceKind}}-{{.ResourceAPIVersion}}.json"), path],
      ]);
    for (const { name, text: yaml, objects } of sets) {
      const { code, stdout } = await judged(file(name, yaml));
      const { resources, summary } = JSON.parse(stdout) as { resources?: unknown; summary: Record<string, number> };
      expect(code, `${name}: ${JSON.stringify(resources)}`).toBe(0);
      expect(summary, name).toEqual({ valid: objects.length, invalid: 0, errors: 0, skipped: 0 });
    }
    const [first] = sets.filter(({ objects }) => objects.some(({ kind }) => kind === "ScaledObject"));
    for (const key of ["maxReplicaCount", "progressDeadlineSeconds"]) {
      const [own] = key === "maxReplicaCount" ? [first!] : sets;
      const wrong = own!.text.replace(key, `${key}s`);
      expect((await judged(file("wrong", wrong))).code, key).toBe(1);
    }
  });
});

describe.skipIf(kustomize)("kube-score", () => {
  test("finds nothing but what is not followed, each of which it finds", { timeout: WITHIN }, async ({ skip }) => {
    const tool = await builtTool("kube-score");
    if ("missing" in tool) return skip(`kube-score was not run: ${tool.missing}`);
    const open: string[] = [];
    const used = new Set<string>();
    for (const { name, text: yaml } of sets) {
      for (const { check, object } of await findings(join(tool.bin, "kube-score"), file(name, yaml))) {
        const entry = NOT_FOLLOWED.find(([known, objects]) => known === check && objects.test(object));
        if (entry) used.add(entry[0]);
        else open.push(`${name}: ${object}: ${check}`);
      }
    }
    expect(open).toEqual([]);
    expect(NOT_FOLLOWED.map(([check]) => check).filter((check) => !used.has(check))).toEqual([]);
  });
});

describe.skipIf(kustomize)("KEDA's own types", () => {
  test("have every field of its objects, and not others", { timeout: WITHIN }, async ({ skip }) => {
    const tool = await builtProgram("keda-objects", join(ROOT, "test/deploy/keda"));
    if ("missing" in tool) return skip(`KEDA's types were not asked: ${tool.missing}`);
    const asked = async (object: object) => {
      const child = spawn(join(tool.bin, "keda-objects"));
      child.stdin.end(JSON.stringify(object));
      const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "exit") as Promise<[number]>]);
      return { code, stderr };
    };
    const objects = sets.flatMap((set) => set.objects.filter(({ apiVersion }) => apiVersion.startsWith("keda.sh/")));
    expect(objects.length).toBeGreaterThan(4);
    for (const object of objects) expect(await asked(object), object.metadata.name).toEqual({ code: 0, stderr: "" });
    const [{ spec, ...rest }] = objects as [Manifest];
    for (const [wrong, message] of [
      [{ ...rest, spec: { ...(spec as object), maxReplicas: 3 } }, /unknown field "maxReplicas"/],
      [{ ...rest, spec: { ...(spec as object), maxReplicaCount: "3" } }, /cannot unmarshal string/],
      [{ ...rest, kind: "ScaledObjekt", spec }, /is no object of KEDA/],
    ] as const) {
      const { code, stderr } = await asked(wrong);
      expect(code).toBe(1);
      expect(stderr).toMatch(message);
    }
  });
});

interface Finding {
  readonly check: string;
  /** Kind/name. */
  readonly object: string;
}

async function findings(program: string, path: string): Promise<readonly Finding[]> {
  const { stdout } = await said(program, ["score", "--output-format", "json", path]);
  const objects = JSON.parse(stdout) as readonly {
    readonly type_meta: { readonly kind: string };
    readonly object_meta: { readonly name: string };
    readonly checks: readonly {
      readonly check: { readonly id: string };
      readonly grade: number;
      readonly skipped: boolean;
    }[];
  }[];
  return objects.flatMap(({ type_meta, object_meta, checks }) =>
    checks
      // 10 is "all OK".
      .filter(({ grade, skipped }) => !skipped && grade < 10)
      .map(({ check }) => ({ check: check.id, object: `${type_meta.kind}/${object_meta.name}` })),
  );
}

// A folder of self-contained schemas, KIND-VERSION.json in lower case: those of kubernetes-validate, and of the definitions of custom resources.
async function schemaFolder(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const path = folder.at("schemas");
  mkdirSync(path, { recursive: true });
  const source = await kubernetesSchemas();
  if ("missing" in source) return source;
  const read = (name: string) =>
    JSON.parse(readFileSync(join(source.path, name), "utf8").replaceAll(REFERENCE, '"#/definitions/')) as Record<
      string,
      object
    >;
  const { $defs: definitions } = read("_definitions.json");
  const used = new Set(sets.flatMap(({ objects }) => objects.map(({ kind }) => kind.toLowerCase())));
  for (const name of readdirSync(source.path)) {
    const [, kind, version] = KUBERNETES_SCHEMA.exec(name) ?? [];
    if (!used.has(kind ?? "")) continue;
    const { $id: _, ...schema } = read(name);
    writeFileSync(join(path, `${kind}-${version}.json`), JSON.stringify({ ...schema, definitions }));
  }
  for (const [kind, [module, place]] of Object.entries(DEFINITIONS)) {
    const definition = await goFile(module, place);
    if ("missing" in definition) return definition;
    const { spec } = parse(definition.text) as {
      spec: { versions: readonly { name: string; schema: { openAPIV3Schema: Schema } }[] };
    };
    for (const { name, schema } of spec.versions)
      writeFileSync(
        join(path, `${kind.toLowerCase()}-${name}.json`),
        JSON.stringify(closed(schema.openAPIV3Schema, ["metadata"])),
      );
  }
  return { path };
}

const REFERENCE = /"(?:\/api\/_definitions\.json)?#\/\$defs\//g;
/** deployment-apps-v1.json, service-v1.json. */
const KUBERNETES_SCHEMA = /^([a-z]+)-(?:[a-z]+-)?(v\d\w*)\.json$/;

async function kubernetesSchemas(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const tools = await pythonTools().catch(missing);
  if ("missing" in tools) return tools;
  const where = "import kubernetes_validate, os; print(os.path.dirname(kubernetes_validate.__file__))";
  const { stdout } = await said(join(tools.bin, "python"), ["-c", where]);
  return { path: join(stdout.trim(), "kubernetes-json-schema", `v${KUBERNETES}-local-strict`) };
}

// As an API server that prunes nothing would: keys that a definition lacks are refused, but inside of `open`.
function closed(schema: Schema, open: readonly string[] = []): object {
  const { properties, items, additionalProperties } = schema;
  const isClosed = properties && additionalProperties === undefined && !schema["x-kubernetes-preserve-unknown-fields"];
  return {
    ...schema,
    ...(schema["x-kubernetes-int-or-string"] && { type: ["integer", "string"] }),
    ...(properties && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, each]) => [key, open.includes(key) ? each : closed(each)]),
      ),
    }),
    ...(items && { items: closed(items) }),
    ...(typeof additionalProperties === "object" && { additionalProperties: closed(additionalProperties) }),
    ...(isClosed && { additionalProperties: false }),
  };
}
