// Failures know parameters by name; each door writes them in its own way.
import { describe, expect, test } from "vitest";
import { asFlag } from "../../src/cli/io.js";
import { failureOf, param, QeditError, spelled } from "../../src/std/errors.js";

const error = new QeditError("QEDIT_E_USAGE", `Cannot use ${param("cfg_norm")} at cfg 1`, {
  hint: `Add ${param("cfg", 2.5)}`,
  parameter: "cfg_norm",
});

describe("a parameter in a message", () => {
  test("stands by its name where nobody spells it", () => {
    expect([error.message, error.hint]).toEqual(["Cannot use cfg_norm at cfg 1", "Add cfg 2.5"]);
  });

  test("is a flag on the command line", () => {
    const { message, hint } = failureOf(error);
    expect([spelled(message, asFlag), spelled(hint!, asFlag)]).toEqual([
      "Cannot use --cfg-norm at cfg 1",
      "Add --cfg 2.5",
    ]);
  });

  test("is a key in JSON", () => {
    const asKey = (name: string, value: string | undefined) =>
      value === undefined ? `"${name}"` : `"${name}": ${value}`;
    expect(spelled(failureOf(error).hint!, asKey)).toBe('Add "cfg": 2.5');
  });
});

test("what is no QeditError is a bug, under a code of its own", () => {
  expect(failureOf(new TypeError("x is not a function"))).toEqual({
    code: "QEDIT_E_INTERNAL",
    message: "x is not a function",
    hint: undefined,
  });
  expect(failureOf("thrown text").message).toBe("thrown text");
});
