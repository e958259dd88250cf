// The overlay hybrid: what its workers ask Triton for is what the export job wrote.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { defaulted, readTexts } from "../../src/edit/parameters/parameter.js";
import { EXPORTED_PARAMETERS } from "../../src/edit/remote/exported-limits.js";
import { remoteServers } from "../../src/edit/remote/remote-servers.js";
import { ROOT } from "../docs/pages.js";

interface Container {
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
}
interface Workload {
  readonly spec: { readonly template: { readonly spec: { readonly containers: readonly Container[] } } };
}

function read(path: string): unknown {
  return parse(readFileSync(join(ROOT, "deploy/k8s", path), "utf8"));
}

function containerOf(workload: unknown): Container {
  return (workload as Workload).spec.template.spec.containers[0]!;
}

test("the workers of the overlay hybrid hand every stage to Triton, with the LoRA that its models have inside", () => {
  const { patches } = read("overlays/hybrid/kustomization.yaml") as {
    readonly patches: readonly { readonly patch: string }[];
  };
  const { args, env = [] } = containerOf(parse(patches[0]!.patch));
  const written = args.find((each) => each.startsWith("--remote="))!.slice("--remote=".length);
  const servers = readTexts("remote", defaulted(remoteServers, {}, { summary: "", group: "Device" }), [written]);
  expect(Object.keys(servers).sort()).toEqual(Object.keys(EXPORTED_PARAMETERS).sort());
  expect(new Set(Object.values(servers).flat())).toEqual(new Set(["grpc://triton:8001"]));
  const exported = containerOf(read("components/triton/export.yaml")).args;
  expect(env).toContainEqual({ name: "QEDIT_FAST", value: exported[exported.indexOf("--fast") + 1] });
});
