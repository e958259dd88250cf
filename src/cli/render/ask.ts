// Asks yes-no questions, only if stdin and stderr are terminals and this is not a CI machine.
import { QeditError } from "../../std/errors.js";
import type { Io } from "../io.js";
import { printable } from "./shown.js";
import { isCi } from "./style.js";

/** Asks on stderr; true for y or yes. Throws QEDIT_E_USAGE if there is no terminal, with a flag as hint. */
export async function ask(question: string, flag: string, { stdin, stderr, env }: Io): Promise<boolean> {
  if (!stdin.isTTY || !stderr.isTTY || isCi(env)) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot ask "${question}": this is not a terminal`, {
      hint: `Answer with ${flag}`,
    });
  }
  const { createInterface } = await import("node:readline/promises");
  const lines = createInterface({ input: stdin, output: stderr });
  try {
    return /^y(es)?$/i.test((await lines.question(`${printable(question)} [y/N] `)).trim());
  } finally {
    lines.close();
  }
}
