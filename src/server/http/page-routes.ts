// The page at /: its files, which hold everything that it loads. What it does goes through the routes that every client has.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname } from "node:path";
import { Hono } from "hono";
import { packageFile } from "../../std/package-files.js";
import type { HttpApp, HttpEnv } from "./http-context.js";
import { HttpError } from "./http-error.js";

/** Where the build puts the files. */
const FOLDER = packageFile("server/http/page/");

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Nothing from elsewhere, no inline scripts, no markup made from texts, in no frame. https://www.w3.org/TR/CSP3 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const HEADERS = {
  "content-security-policy": POLICY,
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "x-content-type-options": "nosniff",
  // After an update of qedit the files are other ones.
  "cache-control": "no-cache",
};

interface PageFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
}

/** The routes of the page: /, /favicon.svg, /favicon.ico and /page/…; `folder` holds its built files. */
export function pageRoutes({ folder = FOLDER }: { readonly folder?: URL } = {}): HttpApp {
  const app = new Hono<HttpEnv>();
  let reading: Promise<ReadonlyMap<string, PageFile>> | undefined;
  const answer = async (name: string, asked: string | undefined) => {
    reading ??= readFiles(folder);
    const file = (await reading).get(name);
    if (file === undefined) throw new HttpError(404, "not_found", "The page has no such file");
    const headers = { ...HEADERS, "content-type": file.type, etag: file.etag };
    if (asked?.split(",").some((each) => each.trim().replace(/^W\//, "") === file.etag))
      return new Response(null, { status: 304, headers });
    return new Response(file.bytes, { headers });
  };
  app.get("/", (c) => answer("index.html", c.req.header("if-none-match")));
  // Browsers ask for the second one by themselves.
  for (const path of ["/favicon.svg", "/favicon.ico"])
    app.get(path, (c) => answer("favicon.svg", c.req.header("if-none-match")));
  app.get("/page/:name", (c) => answer(c.req.param("name"), c.req.header("if-none-match")));
  return app;
}

// All of them: a name of a request is never a path.
async function readFiles(folder: URL): Promise<ReadonlyMap<string, PageFile>> {
  const names = (await readdir(folder)).filter((name) => TYPES[extname(name)] !== undefined);
  const files = names.map(async (name) => {
    const bytes = new Uint8Array(await readFile(new URL(name, folder)));
    const etag = `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`;
    return [name, { bytes, type: TYPES[extname(name)]!, etag }] as const;
  });
  return new Map(await Promise.all(files));
}
