// Questions, only where a person can answer: stdin and stderr are terminals and this is no CI machine.
import { createInterface } from "node:readline/promises";
import { QeditError } from "../../std/errors.js";
import type { Io } from "../io.js";
import { isCi } from "./style.js";

/** Asks on stderr; true for y or yes. Throws QEDIT_E_USAGE where nobody can answer, with the flag that answers as hint. */
export async function ask(question: string, flag: string, { stdin, stderr, env }: Io): Promise<boolean> {
  if (!stdin.isTTY || !stderr.isTTY || isCi(env)) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot ask "${question}": this is not a terminal`, {
      hint: `Answer with ${flag}`,
    });
  }
  const lines = createInterface({ input: stdin, output: stderr });
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim());
  } finally {
    lines.close();
  }
}
