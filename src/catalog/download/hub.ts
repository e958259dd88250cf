// The model hub: where a file is, and the token that opens it. HF_ENDPOINT names a mirror; tokens come from HF_TOKEN or the hub's own file.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { hubHome } from "../local/hub-cache.js";
import type { HubFile } from "../published/models-schema.js";

const HUGGING_FACE = "https://huggingface.co";

/** The hub's address without a slash at its end; throws QEDIT_E_USAGE when HF_ENDPOINT is no address. */
function hubEndpoint(): string {
  const written = process.env["HF_ENDPOINT"] || HUGGING_FACE;
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url?.protocol === "https:" || url?.protocol === "http:") return written.replace(/\/+$/, "");
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use HF_ENDPOINT "${written}": an address such as ${HUGGING_FACE} is wanted`,
    { hint: "unset HF_ENDPOINT" },
  );
}

/** The address of a file's bytes. */
export function fileUrl({ repository, revision, path }: HubFile): URL {
  const inside = [...repository.split("/"), "resolve", revision, ...path.split("/")].map(encodeURIComponent).join("/");
  return new URL(`${hubEndpoint()}/${inside}`);
}

/** The user's token; undefined without one, and for a hub that a token would reach unencrypted. */
export async function hubToken(): Promise<string | undefined> {
  const { protocol, hostname } = new URL(hubEndpoint());
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
  if (protocol !== "https:" && !isLocal) return undefined;
  const named = process.env["HF_TOKEN"] || process.env["HUGGING_FACE_HUB_TOKEN"];
  if (named) return named.trim();
  if (process.env["HF_HUB_DISABLE_IMPLICIT_TOKEN"] === "1") return undefined;
  const stored = await readFile(process.env["HF_TOKEN_PATH"] || join(hubHome(), "token"), "utf8").catch(() => "");
  return stored.trim() || undefined;
}
