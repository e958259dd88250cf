// The model hub: URLs of files, and the token. HF_ENDPOINT names a mirror; tokens come from HF_TOKEN or the file of huggingface_hub.
import { join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { readBounded } from "../../std/files.js";
import { secretOf } from "../../std/secret.js";
import { hubHome } from "../local/hub-cache.js";
import type { HubFile } from "../published/models-schema.js";
import type { RemoteFile } from "./remote-file.js";
import { isSecure } from "./secure.js";

/** Characters of a token; those of Hugging Face have 37. */
const MAX_TOKEN = 4096;
const TOKEN_HINT = "A token is one word, such as hf_…: export HF_TOKEN=TOKEN, or unset HF_TOKEN";
const HUGGING_FACE = "https://huggingface.co";

// Without a slash at its end.
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

/** A file of the hub for the downloader. Throws QEDIT_E_USAGE when HF_ENDPOINT is no address. */
export async function hubRemote(file: HubFile): Promise<RemoteFile> {
  const url = fileUrl(file);
  const token = await hubToken();
  return {
    name: file.file,
    url,
    bytes: file.bytes,
    token,
    digest: file.sha256 === undefined ? undefined : { algorithm: "sha256", hex: file.sha256 },
    refused: (status) => hubRefusal(status, { url, hasToken: token !== undefined }),
    mismatched: (found, wanted, aside) =>
      new QeditError(
        "QEDIT_E_NETWORK",
        `Cannot accept ${file.file}: its SHA-256 is ${found.hex}, ${wanted.hex} was published`,
        { hint: `It is kept aside as ${aside}. Run the same command to download it afresh` },
      ),
    unreachableHint:
      "Check the network, HTTPS_PROXY and HF_ENDPOINT, then run the same command: it resumes where it stopped",
  };
}

function hubRefusal(status: number, { url, hasToken }: { url: URL; hasToken: boolean }): QeditError {
  const repository = url.href.replace(/\/resolve\/.*$/, "");
  const refuse = (reason: string, hint?: string) =>
    new QeditError("QEDIT_E_NETWORK", `Cannot download ${url.href}: ${reason}`, { hint });
  if (status === 401)
    return refuse(
      hasToken ? "the token is not accepted (401)" : "it needs a login (401)",
      "Make a token at https://huggingface.co/settings/tokens: export HF_TOKEN=TOKEN",
    );
  if (status === 403)
    return refuse(
      "access is refused (403)",
      `Accept its terms at ${repository}, and use a token that may read it: export HF_TOKEN=TOKEN`,
    );
  if (status === 404 || status === 410)
    return refuse(`there is no such file (${status})`, `See what there is: ${repository}`);
  if (status === 416)
    return refuse("the file there is shorter than what was published (416)", `See what there is: ${repository}`);
  return refuse(`the server answers ${status}`);
}

function fileUrl({ repository, revision, path }: HubFile): URL {
  const inside = [...repository.split("/"), "resolve", revision, ...path.split("/")].map(encodeURIComponent).join("/");
  return new URL(`${hubEndpoint()}/${inside}`);
}

// Undefined without a token, and for a hub that a token would reach unencrypted.
async function hubToken(): Promise<string | undefined> {
  if (!isSecure(new URL(hubEndpoint()))) return undefined;
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
    const token = secretOf(process.env[name], name, { hint: TOKEN_HINT });
    if (token !== undefined) return token;
  }
  if (process.env["HF_HUB_DISABLE_IMPLICIT_TOKEN"] === "1") return undefined;
  const path = process.env["HF_TOKEN_PATH"] || join(hubHome(), "token");
  const bytes = await readBounded(path, MAX_TOKEN).catch(() => new Uint8Array());
  // What is no UTF-8 is no token, and refused as such.
  const stored = new TextDecoder().decode(bytes);
  return secretOf(stored, path, { hint: TOKEN_HINT });
}
