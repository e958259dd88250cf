// /openapi.json, and /docs: the same as a page, made here from the document, without scripts.
import { createHash } from "node:crypto";
import { Hono } from "hono";
import { html, raw } from "hono/html";
import { isObject } from "../../std/guards.js";
import type { HttpApp, HttpContext, HttpEnv } from "./http-context.js";
import { FAILURES, openApi } from "./openapi.js";

/** The routes of the reference. */
export function referenceRoutes({ version, metrics, hasKey }: HttpContext): HttpApp {
  const document = openApi({ version, hasKey, hasMetrics: metrics !== undefined });
  const app = new Hono<HttpEnv>();
  app.get("/openapi.json", (c) => c.json(document));
  app.get("/docs", async (c) => {
    const style = createHash("sha256").update(STYLE).digest("base64");
    c.header("content-security-policy", `default-src 'none'; style-src 'sha256-${style}'`);
    return c.html(String(await page(document as Document)));
  });
  return app;
}

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly description?: string;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

interface Operation {
  readonly summary: string;
  readonly tags: readonly [string];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly description: string }>>;
}

interface Document {
  readonly info: { readonly version: string; readonly description: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const STYLE = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font-family: ui-monospace, monospace; font-size: 0.9em }
section { border-top: 1px solid #8886; padding: 0.5rem 0 1rem }
h3 code { font-size: 1rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #8883 }
td:first-child { white-space: nowrap }
summary { cursor: pointer }`;

function page(document: Document) {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => operation.tags[0]))];
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qedit ${document.info.version}: HTTP reference</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>qedit over HTTP</h1>
<p>Version ${document.info.version}. ${document.info.description} For programs: <a href="/openapi.json">openapi.json</a>.</p>
${tags.map(
  (tag) => html`<h2>${tag}</h2>
${operations.filter(({ operation }) => operation.tags[0] === tag).map((each) => section(each, document))}`,
)}
<h2>Failures</h2>
<table><thead><tr><th>code</th><th>status</th><th>meaning</th></tr></thead><tbody>
${FAILURES.map(({ api, http, meaning }) => html`<tr><td><code>${api}</code></td><td>${http}</td><td>${meaning}</td></tr>`)}
</tbody></table>
</body>
</html>`;
}

function section(
  { path, method, operation }: { path: string; method: string; operation: Operation },
  { components }: Document,
) {
  const { summary, parameters = [], requestBody, responses } = operation;
  const bodies = Object.entries(requestBody?.content ?? {});
  return html`<section>
<h3><code>${method} ${path}</code></h3>
<p>${summary}</p>
${parameters.length === 0 ? "" : html`<table><tbody>${parameters.map((each) => html`<tr><td><code>${each.name}</code></td><td>${each.in}</td><td>${typeName(each.schema)}</td><td>${each.description ?? ""}</td></tr>`)}</tbody></table>`}
${bodies.map(([type, { schema }]) => html`<details><summary>Body: <code>${type}</code></summary>${fields(resolved(schema, components.schemas))}</details>`)}
<table><tbody>${Object.entries(responses).map(([status, { description }]) => html`<tr><td>${status}</td><td>${description}</td></tr>`)}</tbody></table>
</section>`;
}

function fields({ properties = {}, required = [] }: Schema) {
  return html`<table><tbody>${Object.entries(properties).map(
    ([name, schema]) =>
      html`<tr><td><code>${name}</code>${required.includes(name) ? " (required)" : ""}</td><td>${typeName(schema)}</td><td>${schema.description ?? ""}</td></tr>`,
  )}</tbody></table>`;
}

function resolved(schema: Schema, schemas: Readonly<Record<string, Schema>>): Schema {
  const name = schema.$ref?.split("/").at(-1);
  return name === undefined ? schema : (schemas[name] ?? schema);
}

function typeName({ enum: words, type, items, anyOf, oneOf, minimum, maximum }: Schema): string {
  if (words) return words.map(String).join(", ");
  const several = anyOf ?? oneOf;
  if (several) return [...new Set(several.map(typeName))].join(" or ");
  if (items && isObject(items)) return `list of ${typeName(items)}`;
  const range =
    minimum === undefined ? "" : maximum === undefined ? ` from ${minimum}` : ` from ${minimum} to ${maximum}`;
  return `${[type ?? "any"].flat().join(" or ")}${range}`;
}
