// /openapi.json beside the routes that there are. That answers are as it says is tried by schemathesis: python-clients.test.ts.
import { expect, test } from "vitest";
import { kserveRoutes } from "../../../src/server/http/kserve-routes.js";
import { openApi } from "../../../src/server/http/openapi.js";
import type { Inference } from "../../../src/server/kserve/inference.js";

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { responses: object; security?: object }>>>>;
  readonly components: { readonly schemas: object };
}

const DOCUMENT = openApi({ version: "0", hasKey: true, hasMetrics: false }) as Document;

test("every route of inference is described", () => {
  // They are listed without being called.
  const routes = kserveRoutes(undefined as unknown as Inference).routes.filter(({ method }) => method !== "ALL");
  const described = Object.entries(DOCUMENT.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const wanted = routes.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
  expect(wanted.length).toBeGreaterThan(15);
  expect(described).toEqual(expect.arrayContaining([...new Set(wanted)]));
});

test("every schema that is named is there, and only those", () => {
  const named = [...JSON.stringify(DOCUMENT).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name);
  expect([...new Set(named)].sort()).toEqual(Object.keys(DOCUMENT.components.schemas).sort());
});

test("errors of inference have the protocol's form, and its probes need no key", () => {
  const { responses } = DOCUMENT.paths["/v2/models/{model}/infer"]!["post"]!;
  expect(Object.keys(responses)).toEqual(
    expect.arrayContaining(["200", "400", "401", "403", "404", "413", "429", "503"]),
  );
  expect(JSON.stringify(responses)).not.toContain('"#/components/schemas/Error"');
  expect(DOCUMENT.paths["/v2/health/ready"]!["get"]!.security).toEqual([]);
});
