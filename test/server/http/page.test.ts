// The files of the page as the server answers them; `npm run build` makes them.
import { readdirSync, readFileSync } from "node:fs";
import { Hono } from "hono";
import { expect, test } from "vitest";
import { errorAnswer } from "../../../src/server/http/http-error.js";
import { pageRoutes } from "../../../src/server/http/page-routes.js";

const DIST = new URL("../../../dist/server/http/page/", import.meta.url);
const SOURCES = new URL("../../../src/server/http/page/", import.meta.url);

const app = new Hono().route("/", pageRoutes({ folder: DIST }) as unknown as Hono);
app.onError((error, c) => {
  const { body, status } = errorAnswer(error);
  return c.json(body, status as 404);
});
const index = await (await app.request("/")).text();
const modules = readdirSync(SOURCES).flatMap((name) => (name.endsWith(".ts") ? [name.replace(/\.ts$/, ".js")] : []));

test.each([
  ["/", "text/html; charset=utf-8"],
  ["/page/page.css", "text/css; charset=utf-8"],
  ["/page/page.js", "text/javascript; charset=utf-8"],
  ["/favicon.svg", "image/svg+xml"],
  ["/favicon.ico", "image/svg+xml"],
])("%s is answered as %s", async (path, type) => {
  const answer = await app.request(path);
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toBe(type);
  expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(100);
});

test("every answer allows nothing from elsewhere, no inline scripts and no frames", async () => {
  for (const path of ["/", "/page/page.js", "/page/page.css", "/favicon.svg"]) {
    const policy = (await app.request(path)).headers.get("content-security-policy")!;
    const rules = new Map(policy.split("; ").map((rule) => [rule.split(" ")[0], rule.split(" ").slice(1).join(" ")]));
    expect(rules.get("default-src")).toBe("'none'");
    for (const kind of ["script-src", "style-src", "connect-src"]) expect(rules.get(kind)).toBe("'self'");
    expect(rules.get("img-src")).toBe("'self' blob: data:");
    for (const kind of ["base-uri", "form-action", "frame-ancestors"]) expect(rules.get(kind)).toBe("'none'");
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
  }
});

test("a file that the browser has is not sent again", async () => {
  const first = await app.request("/page/page.js");
  const etag = first.headers.get("etag")!;
  expect(etag).toMatch(/^"[\w-]{22}"$/);
  for (const given of [etag, `W/${etag}`, `"other", ${etag}`]) {
    const again = await app.request("/page/page.js", { headers: { "if-none-match": given } });
    expect([again.status, await again.text()]).toEqual([304, ""]);
  }
  expect((await app.request("/page/page.js", { headers: { "if-none-match": '"other"' } })).status).toBe(200);
});

test("every module of the page is built and answered, with the modules that it imports", async () => {
  for (const name of modules) {
    const text = await (await app.request(`/page/${name}`)).text();
    const imported = [...text.matchAll(/from "\.\/([^"]+)"/g)].map((match) => match[1]!);
    expect(modules).toEqual(expect.arrayContaining(imported));
    expect(text.match(/from "(?!\.\/)[^"]+"/g) ?? []).toEqual([]);
  }
});

test.each(["/page/nothing.js", "/page/page.ts", "/page/..%2fapp.js", "/page/%2e%2e%2fapp.js", "/page/index.html%00"])(
  "%s is not found",
  async (path) => {
    expect((await app.request(path)).status).toBe(404);
  },
);

test("the page has no inline scripts and styles, and names nothing from elsewhere", () => {
  expect(index).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/i);
  const places = [...index.matchAll(/(?:src|href)="([^"]*)"/g)].map((match) => match[1]!);
  expect(places.filter((place) => !/^(\/page\/[\w.]+|\/favicon\.svg|#\w+)$/.test(place))).toEqual([]);
});

test("no text becomes markup", () => {
  const markup = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function/;
  for (const name of readdirSync(SOURCES)) expect(readFileSync(new URL(name, SOURCES), "utf8")).not.toMatch(markup);
});

test("every field of the page has a label, every dialog and region a name", () => {
  const ids = new Set([...index.matchAll(/\sid="([^"]+)"/g)].map((match) => match[1]!));
  for (const [tag] of index.matchAll(/<(input|select|textarea)\b[^>]*>/g)) {
    const id = /\sid="([^"]+)"/.exec(tag)?.[1];
    const isLabelled = /aria-label=/.test(tag) || index.includes(`for="${id}"`) || /type="(radio|checkbox)"/.test(tag);
    expect(isLabelled, tag).toBe(true);
  }
  for (const [tag] of index.matchAll(/<(dialog|section|form id)\b[^>]*>/g)) expect(tag).toMatch(/aria-label(ledby)?="/);
  const named = [...index.matchAll(/(?:aria-labelledby|aria-describedby|for)="([^"]+)"/g)].flatMap((match) =>
    match[1]!.split(" "),
  );
  expect(named.filter((id) => !ids.has(id))).toEqual([]);
});
