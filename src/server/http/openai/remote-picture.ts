// Pictures by URL: only from hosts that were allowed, over https, without redirects, and never from an address of a private network, so that
// nobody can make the server look at its neighbours.
import { lookup } from "node:dns/promises";
import { request } from "node:https";
import { BlockList, isIPv6 } from "node:net";
import type { NamedBytes } from "../../../edit/request/edit-request.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { QeditError } from "../../../std/errors.js";
import { HttpError } from "../http-error.js";
import { fileName } from "../request-body.js";

/** What pictures by URL may take. */
export interface RemoteOptions {
  readonly hosts: readonly string[];
  /** Most bytes of all pictures of a request. */
  readonly most: number;
  /** Aborted when nobody waits for the request any more. */
  readonly signal: AbortSignal;
}

/** Fetches a picture by its URL, which stands in a parameter. Throws HttpError 400 for a host that is not allowed, QEDIT_E_NETWORK. */
export type FetchPicture = (url: string, parameter: string) => Promise<NamedBytes>;

/** Fetches the pictures of one request. */
export function pictureFetcher({ most, ...options }: RemoteOptions): FetchPicture {
  let left = most;
  return async (url, parameter) => {
    const picture = await fetched(url, parameter, { ...options, left, most });
    left -= picture.bytes.length;
    return picture;
  };
}

/** Milliseconds for one picture. */
const TIMEOUT = 30_000;

/** Addresses that are no public host: private, loopback, link-local, shared, reserved, multicast. https://www.iana.org/assignments/iana-ipv4-special-registry */
const PRIVATE = new BlockList();
for (const [network, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
] as const)
  PRIVATE.addSubnet(network, prefix, "ipv4");
/** Of IPv6 only global unicast addresses are public, without documentation, 6to4 and Teredo. */
const GLOBAL = new BlockList();
GLOBAL.addSubnet("2000::", 3, "ipv6");
for (const [network, prefix] of [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
] as const)
  PRIVATE.addSubnet(network, prefix, "ipv6");

/** Whether an address is of a public host. */
export function isPublic(address: string): boolean {
  if (!isIPv6(address)) return !PRIVATE.check(address, "ipv4");
  return GLOBAL.check(address, "ipv6") && !PRIVATE.check(address, "ipv6");
}

interface Allowed extends RemoteOptions {
  /** Of `most`. */
  readonly left: number;
}

async function fetched(written: string, parameter: string, { hosts, ...allowed }: Allowed): Promise<NamedBytes> {
  const refused = (reason: string, hint?: string) =>
    new HttpError(400, "url_not_allowed", `Cannot fetch the picture: ${reason}`, { parameter, ...(hint && { hint }) });
  if (!URL.canParse(written)) throw refused("its URL cannot be read");
  const url = new URL(written);
  if (url.protocol !== "https:") throw refused("its URL is not of https");
  if (url.username !== "" || url.password !== "") throw refused("its URL has a user name");
  if (!hosts.includes(url.hostname))
    throw refused("its host is not allowed", "Send it as a data URL, or start the server with allow-urls");
  const found = await lookup(url.hostname, { all: true }).catch((cause: unknown) => {
    throw new QeditError("QEDIT_E_NETWORK", `Cannot fetch the picture: ${url.hostname} is not found`, { cause });
  });
  const [address] = found;
  if (address === undefined || found.some((each) => !isPublic(each.address)))
    throw refused("its host is in a private network");
  return { name: fileName(decoded(url.pathname)), bytes: await download(url, address, allowed) };
}

// From the address that was looked at: a second lookup could give another one.
function download(
  url: URL,
  { address, family }: { address: string; family: number },
  { left, most, signal }: Omit<Allowed, "hosts">,
): Promise<Uint8Array> {
  const failed = (reason: string, cause?: unknown) =>
    new QeditError("QEDIT_E_NETWORK", `Cannot fetch the picture from ${url.hostname}: ${reason}`, { cause });
  return new Promise((resolve, reject) => {
    const call = request(
      url,
      {
        lookup: (_host, options, callback) =>
          options.all ? callback(null, [{ address, family }]) : callback(null, address, family),
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]),
        headers: { accept: "image/*", "accept-encoding": "identity" },
      },
      (response) => {
        const status = response.statusCode ?? 0;
        if (status !== 200) {
          response.destroy();
          reject(failed(status >= 300 && status < 400 ? "redirects are not followed" : `it answered ${status}`));
          return;
        }
        const parts: Buffer[] = [];
        let length = 0;
        response.on("data", (part: Buffer) => {
          length += part.length;
          parts.push(part);
          if (length > left)
            response.destroy(failed(`the pictures of a request may have ${decimalSize(most)} together, and have more`));
        });
        response.on("error", (error) => reject(error instanceof QeditError ? error : failed(error.message, error)));
        response.on("end", () => resolve(Buffer.concat(parts, length)));
      },
    );
    call.on("error", (error) => reject(failed(error.message, error)));
    call.end();
  });
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
