// qedit explain: the meaning, causes and remedy of an error code.
import { ERRORS } from "../../edit/error-table.js";
import { ERROR_CODES, type ErrorCode, QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";

/** `qedit explain QEDIT_E_LORA`. */
export const explain = defineCommand({
  examples: ["qedit explain QEDIT_E_LORA", "qedit explain"],
  positionals: [["[code]", "such as QEDIT_E_LORA, or LORA; all of them without it"]],
  options: {},
  async perform({ args: [given] }, terminal) {
    const codes = given === undefined ? ERROR_CODES : [codeOf(given)];
    const records = codes.map((code) => ({ code, ...ERRORS[code] }));
    const { bold } = terminal.style;
    if (given === undefined)
      return terminal.result(
        records,
        records.map(({ code, exit, meaning }) => `${bold(code.padEnd(24))} exit ${exit}  ${meaning}`),
      );
    const [record] = records as [(typeof records)[number]];
    const { code, exit, meaning, causes, remedy } = record;
    terminal.result(record, [
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
  const code = ERROR_CODES.find((each) => each === wanted);
  if (code !== undefined) return code;
  throw new QeditError("QEDIT_E_USAGE", `Cannot explain "${given}": there is no such code`, {
    hint: "`qedit explain` lists all codes",
  });
}
