import { createHash } from "node:crypto";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writeReceipt } from "../../src/catalog/download/receipt.js";
import { knownHash } from "../../src/catalog/local/known-hash.js";
import { FILE_ROLES, publishedModel } from "../../src/catalog/published/models.js";
import { identityOf } from "../../src/checkpoint/open.js";
import { PACKAGE_ROOT } from "../../src/std/package-files.js";
import { temporaryFolder } from "../support/folder.js";

const HASH = createHash("sha256").update("weights").digest("hex");

describe("the hash of a file is known", () => {
  const folder = temporaryFolder();

  test("by the receipt of its download, unless the file has another length", async () => {
    const file = folder.write("vae.safetensors", "weights");
    expect(await knownHash(file)).toBeUndefined();
    const receipt = { repository: "a/b", path: "vae.safetensors", revision: "main", bytes: 7, sha256: HASH };
    await writeReceipt(file, receipt);
    expect(await knownHash(file)).toBe(HASH);
    folder.write("vae.safetensors", "other weights");
    expect(await knownHash(file)).toBeUndefined();
  });

  test("by the name of its blob in the Hugging Face cache", async () => {
    mkdirSync(join(folder.path, "blobs"));
    const blob = folder.write(`blobs/${HASH}`, "weights");
    const link = join(folder.path, "linked.safetensors");
    symlinkSync(blob, link);
    expect(await knownHash(link)).toBe(HASH);
  });

  test("by the catalogue, of a file inside the package", async () => {
    const { files } = await publishedModel("tiny");
    const { embedded, sha256 } = files.vae as { embedded: string; sha256: string };
    expect(await knownHash(join(PACKAGE_ROOT, embedded))).toBe(sha256);
  });
});

test("identities in the catalogue are those of the files inside the package", async () => {
  const { files, loras } = await publishedModel("tiny");
  const all = [...FILE_ROLES.map((role) => files[role]), ...Object.values(loras)];
  for (const file of all) {
    const path = join(PACKAGE_ROOT, (file as { embedded: string }).embedded);
    expect(file.identity, file.file).toBe(await identityOf(path));
  }
});
