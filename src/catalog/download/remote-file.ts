// What the downloader needs to know of a file, wherever it is published: on a model hub, in a package registry, at a URL.
import type { QeditError } from "../../std/errors.js";

/** A published hash, hexadecimal in lower case. */
export interface Digest {
  readonly algorithm: "sha256" | "sha512";
  readonly hex: string;
}

/** A file on a server. */
export interface RemoteFile {
  /** For messages and events. */
  readonly name: string;
  readonly url: URL;
  /** Length in bytes; undefined when only the server knows it. */
  readonly bytes: number | undefined;
  /** Sent to the origin of the URL only. */
  readonly token: string | undefined;
  /** Undefined when no hash was published. */
  readonly digest: Digest | undefined;
  /** The error for an HTTP status that no further try can change. */
  readonly refused: (status: number) => QeditError;
  /** The error for a file with another hash than was published, kept as `aside`. */
  readonly mismatched: (found: Digest, wanted: Digest, aside: string) => QeditError;
  /** Hint when the server cannot be reached, or breaks off again and again. */
  readonly unreachableHint: string;
}
