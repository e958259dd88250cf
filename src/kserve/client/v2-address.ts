// Addresses of servers of the inference protocol: grpc://HOST:PORT, grpcs://…, http://HOST:PORT, https://….

/** Where a server is reached. */
export interface V2Address {
  /** As it is written, for messages. */
  readonly text: string;
  readonly protocol: "grpc" | "http";
  readonly isSecure: boolean;
  /** Of gRPC `HOST:PORT`; of HTTP the URL that paths are added to, without a slash at its end. */
  readonly target: string;
}

const LAST_PORT = 65_535;

/** Reads an address; undefined for what is none. One with a key in it is none: a key is no part of an address. */
export function parseV2Address(written: string): V2Address | undefined {
  const text = written.trim();
  const [, scheme, rest] = /^(grpcs?|https?):\/\/(.+)$/i.exec(text) ?? [];
  if (scheme === undefined || rest === undefined || !URL.canParse(`http://${rest}`)) return undefined;
  const url = new URL(`${/^https$/i.test(scheme) ? "https" : "http"}://${rest}`);
  const isPlain = url.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (!isPlain || /[\s,=]/.test(rest) || url.port === "0") return undefined;
  const isSecure = scheme.toLowerCase().endsWith("s");
  if (/^https?$/i.test(scheme)) {
    const base = url.href.replace(/\/+$/, "");
    return { text: base, protocol: "http", isSecure, target: base };
  }
  // A path means nothing to gRPC, and a port has no default there.
  const target = /^((?:\[[0-9a-f:.]+\]|[\w.-]+):(\d{1,5}))\/?$/i.exec(rest);
  if (!target || Number(target[2]) > LAST_PORT) return undefined;
  return { text: `${scheme.toLowerCase()}://${target[1]}`, protocol: "grpc", isSecure, target: target[1]! };
}
