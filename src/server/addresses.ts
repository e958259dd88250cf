// Where a door listens: `[HOST:]PORT`.
import { param, QeditError } from "../std/errors.js";

/** An address to listen on. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const LOOPBACK = "127.0.0.1";

/** Reads `8000`, `0.0.0.0:8000`, `[::1]:8000`; without a host it is loopback. Throws QEDIT_E_USAGE. */
export function parseAddress(written: string, parameter: string): Address {
  const match = /^(?:(?:\[([0-9a-f:.]+)\]|([\w.-]+)):)?(\d{1,5})$/i.exec(written.trim());
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use "${written}" for ${param(parameter)}: HOST:PORT or PORT is wanted`,
      {
        hint: `Write, for example, ${param(parameter, "127.0.0.1:8000")}`,
        parameter,
      },
    );
  return { host: match[1] ?? match[2] ?? LOOPBACK, port };
}

/** An address as a part of a URL: `127.0.0.1:8000`, `[::1]:8000`. */
export function written({ host, port }: Address): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
