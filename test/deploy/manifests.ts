// The overlays of deploy/k8s as kubectl builds them, and what their objects refer to.
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { ROOT } from "../docs/pages.js";
import type { TemporaryFolder } from "../support/folder.js";
import { kubectl } from "./tools.js";

const run = promisify(execFile);
const K8S = join(ROOT, "deploy/k8s");

/** A value of YAML. */
export type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };

/** A Kubernetes object. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> };
  readonly [key: string]: unknown;
}

/** A template of pods. */
export interface PodTemplate {
  readonly metadata: { readonly labels: Record<string, string> };
  readonly spec: PodSpec;
}

interface PodSpec {
  readonly [key: string]: unknown;
  readonly containers: readonly Container[];
  readonly volumes?: readonly Record<string, Record<string, string>>[];
}

/** A container of a pod. */
export interface Container {
  readonly [key: string]: unknown;
  readonly name: string;
  readonly image: string;
  readonly args?: readonly string[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
}

/** Names of the overlays, and with them the base. */
export const OVERLAYS = ["base", ...readdirSync(join(K8S, "overlays")).map((name) => `overlays/${name}`)];

/** Components, each with the overlay it is tried with. */
export const COMPONENTS = readdirSync(join(K8S, "components"));

/** What a folder or a component beside the base gives. */
export interface ManifestSet {
  readonly name: string;
  readonly text: string;
  readonly objects: readonly Manifest[];
}

/** All overlays, and each component beside what it is for. */
export async function builtSets(folder: TemporaryFolder): Promise<readonly ManifestSet[]> {
  const sets = [
    ...OVERLAYS.map((name) => [name, name] as const),
    ...COMPONENTS.map((name) => [`base with ${name}`, withComponent(name, folder)] as const),
  ];
  return Promise.all(
    sets.map(async ([name, path]) => {
      const text = await built(path);
      return { name, text, objects: objectsOf(text) };
    }),
  );
}

function withComponent(name: string, folder: TemporaryFolder): string {
  const place = folder.at(name);
  mkdirSync(place, { recursive: true });
  const path = (below: string) => relative(place, join(K8S, below));
  folder.write(
    `${name}/kustomization.yaml`,
    `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: qedit
resources: [${path("base")}]
components: [${[...(name === "keda" ? ["kafka"] : []), name].map((each) => path(`components/${each}`))}]
`,
  );
  return relative(K8S, place);
}

/** Builds a folder of deploy/k8s, or any other. */
export async function built(folder: string): Promise<string> {
  const { stdout } = await run(await kubectl(), ["kustomize", join(K8S, folder)]);
  return stdout;
}

/** The objects of a stream of YAML. */
export function objectsOf(text: string): readonly Manifest[] {
  return parseAllDocuments(text, { uniqueKeys: true }).map((document) => {
    const [error] = document.errors;
    if (error) throw error;
    return document.toJS() as Manifest;
  });
}

/** The pods that an object makes. */
export function podsOf({ kind, spec }: Manifest): PodTemplate | undefined {
  return kind === "Deployment" || kind === "Job" ? (spec as { template: PodTemplate }).template : undefined;
}

/** Whether labels are those that a selector wants. */
export function matches(selector: unknown, labels: Readonly<Record<string, string>> = {}): boolean {
  const { matchLabels, matchExpressions, ...plain } = selector as {
    matchLabels?: Record<string, string>;
    matchExpressions?: readonly { key: string; operator: string; values: readonly string[] }[];
  };
  const equal = Object.entries(matchLabels ?? (matchExpressions ? {} : (plain as Record<string, string>)));
  return (
    equal.every(([key, value]) => labels[key] === value) &&
    (matchExpressions ?? []).every(({ key, values }) => values.includes(labels[key] ?? ""))
  );
}
