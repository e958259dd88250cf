import { expect, test } from "vitest";
import { secretOf } from "../../src/std/secret.js";

test("a key is read without the line break at its end", () => {
  expect(secretOf("a-key=+/~!\r\n", "QEDIT_API_KEY")).toBe("a-key=+/~!");
});

test.each([undefined, "", "\n", "  "])("%j is no key", (written) => {
  expect(secretOf(written, "QEDIT_API_KEY")).toBeUndefined();
});

test.each(["one two", "a\nsecret", "schlüssel-a", "a\0b", "a\x7f", "x".repeat(5000)])(
  "%j is refused by the name of its source, and not shown",
  (written) => {
    const read = () => secretOf(written, "/run/secrets/key");
    expect(read).toThrow("Cannot use /run/secrets/key as a key: it holds spaces, line breaks or other letters");
    expect(read).not.toThrow(written);
  },
);
