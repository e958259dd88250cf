import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { resultFile } from "../../../src/server/mcp/result-file.js";
import { temporaryFolder } from "../../support/folder.js";

const folder = temporaryFolder();
const name = () => ({ output: folder.at("cat-edit.png"), input: "cat.jpg", folder: folder.path, format: undefined });

test("of calls at once with one name the first has it, and the others are refused before they compute", async () => {
  const reserved = new Set<string>();
  const calls = await Promise.allSettled([1, 2, 3].map(() => resultFile(name(), reserved)));
  expect(calls.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected"]);
  expect(calls[1]).toMatchObject({
    reason: { code: "QEDIT_E_EXISTS", hint: expect.stringContaining("cat-edit-2.png") },
  });
  const [first] = calls;
  if (first?.status === "fulfilled") first.value[Symbol.dispose]();
  expect([reserved.size, readdirSync(folder.path)]).toEqual([0, []]);
});

test("a name whose folder cannot be written is free again", async () => {
  const reserved = new Set<string>();
  await expect(resultFile({ ...name(), output: "/dev/null/out.png" }, reserved)).rejects.toThrow();
  expect(reserved.size).toBe(0);
});
