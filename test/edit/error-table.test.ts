// What scripts build on: each code's exit status, as the README promises.
import { expect, test } from "vitest";
import { ERRORS } from "../../src/edit/error-table.js";

test("every code has the exit status that was published for it", () => {
  const statuses = Object.fromEntries(Object.entries(ERRORS).map(([code, { exit }]) => [code, exit]));
  expect(statuses).toEqual({
    QEDIT_E_USAGE: 2,
    QEDIT_E_IMAGE: 2,
    QEDIT_E_ARTIFACT: 2,
    QEDIT_E_EXISTS: 2,
    QEDIT_E_MODEL_MISSING: 3,
    QEDIT_E_CHECKPOINT: 3,
    QEDIT_E_LORA: 3,
    QEDIT_E_DEVICE: 1,
    QEDIT_E_ENGINE: 1,
    QEDIT_E_IO: 1,
    QEDIT_E_NETWORK: 1,
    QEDIT_E_MEMORY: 4,
    QEDIT_E_BAD_OUTPUT: 5,
    QEDIT_E_PARTIAL: 6,
    QEDIT_E_BUSY: 1,
    QEDIT_E_INTERRUPTED: 130,
    QEDIT_E_TERMINATED: 143,
    QEDIT_E_INTERNAL: 1,
  });
});
