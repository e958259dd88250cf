// qedit explain: what an error code means, why it comes, and what to do.
import { CODES, type ErrorCode, QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { EXPLANATIONS } from "../explanations.js";

/** `qedit explain QEDIT_E_LORA`. */
export const explain = defineCommand({
  summary: "Explain an error code",
  examples: ["qedit explain QEDIT_E_LORA", "qedit explain"],
  positionals: [["[code]", "such as QEDIT_E_LORA, or LORA; all of them without it"]],
  options: {},
  async perform({ args: [given] }, terminal) {
    const codes = given === undefined ? (Object.keys(CODES) as ErrorCode[]) : [codeOf(given)];
    const records = codes.map((code) => ({ code, exit: CODES[code], ...EXPLANATIONS[code] }));
    const { bold } = terminal.style;
    if (given === undefined)
      return terminal.result(
        records,
        records.map(({ code, exit, meaning }) => `${bold(code.padEnd(24))} exit ${exit}  ${meaning}`),
      );
    const [{ code, exit, meaning, causes, remedy }] = records as [(typeof records)[number]];
    terminal.result(records[0]!, [
      `${bold(code)}  exit ${exit}`,
      "",
      meaning,
      "",
      "Why it comes:",
      ...causes.map((cause) => `  - ${cause}`),
      "",
      "What to do:",
      `  ${remedy}`,
    ]);
  },
});

function codeOf(given: string): ErrorCode {
  const wanted = given.toUpperCase().replace(/^(QEDIT_)?(E_)?/, "QEDIT_E_");
  if (wanted in CODES) return wanted as ErrorCode;
  throw new QeditError("QEDIT_E_USAGE", `Cannot explain "${given}": there is no such code`, {
    hint: "`qedit explain` lists all codes",
  });
}
