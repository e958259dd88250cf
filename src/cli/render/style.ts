// Whether a stream gets colours and animation: by flag, then FORCE_COLOR, NO_COLOR, TERM=dumb, and whether it is a terminal.
// https://no-color.org, https://nodejs.org/api/tty.html#writestreamgetcolordepthenv
import { styleText } from "node:util";
import type { Output } from "../io.js";

/** The environment, and the flag `--no-color`. */
export interface StyleChoice {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** False for `--no-color`; undefined without the flag. */
  readonly color: boolean | undefined;
}

type Stream = Pick<Output, "isTTY" | "columns">;

/** Adds colours to text; without colours returns it unchanged. */
export interface Style {
  readonly color: boolean;
  readonly red: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly green: (text: string) => string;
  readonly cyan: (text: string) => string;
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
}

/** Whether a stream gets colours. FORCE_COLOR wins over NO_COLOR, as in Node itself; FORCE_COLOR=0 means no. */
export function hasColor(stream: Stream, { env, color }: StyleChoice): boolean {
  if (color !== undefined) return color;
  const forced = env["FORCE_COLOR"];
  if (forced !== undefined) return forced !== "0" && forced !== "false";
  if (env["NO_COLOR"]) return false;
  return stream.isTTY === true && env["TERM"] !== "dumb";
}

/** Whether spinners and bars are shown: on a terminal with columns that is not dumb, and not in CI. */
export function hasMotion(stream: Stream, { env }: Pick<StyleChoice, "env">): boolean {
  // On a pseudo-terminal with 0 columns a spinner would clear lines forever.
  return stream.isTTY === true && (stream.columns ?? 0) > 0 && env["TERM"] !== "dumb" && !isCi(env);
}

/** Whether this is a CI machine: CI is set, and not to 0 or false. */
export function isCi(env: StyleChoice["env"]): boolean {
  return !["", "0", "false"].includes(env["CI"] ?? "");
}

/** The style of a stream. */
export function styleFor(stream: Stream, choice: StyleChoice): Style {
  const color = hasColor(stream, choice);
  const paint = (name: Parameters<typeof styleText>[0]) => (text: string) =>
    color ? styleText(name, text, { validateStream: false }) : text;
  return {
    color,
    red: paint("red"),
    yellow: paint("yellow"),
    green: paint("green"),
    cyan: paint("cyan"),
    bold: paint("bold"),
    dim: paint("dim"),
  };
}
