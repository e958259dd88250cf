// The store that clients and workers share: what is read is what was meant, and lies in it.
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { ClaimStore } from "../../../src/server/kafka/claim-store.js";
import { FolderFiles } from "../../../src/server/kafka/store-files.js";
import { temporaryFolder } from "../../support/folder.js";

const folder = temporaryFolder();
const store = new ClaimStore(new FolderFiles(folder.at("store")), 1_000_000);
const bytes = Buffer.from("a picture");
const picture = (name: string) => ({ name, bytes });
const result = {
  ...{ sha256: "", type: "image/png", bytes: 9, width: 3, height: 2, seed: "7", device: "cpu" },
  ...{ drift: null, seconds: { sample: 1.5 }, recipe: "{}" },
};
const content = "c0".repeat(32);

test("bytes come back by their reference, and lie under their hash", async () => {
  const reference = await store.put(bytes);
  expect(reference.uri).toBe(
    pathToFileURL(folder.at(`store/objects/${reference.sha256.slice(0, 2)}/${reference.sha256}`)).href,
  );
  expect(await store.unpack({ name: "a.png", data: reference })).toEqual(bytes);
  expect(folder.names().filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

test("a file under its hash that was damaged is written again", async () => {
  const { uri, sha256, size } = await store.put(Buffer.from("will be damaged"));
  writeFileSync(new URL(uri), "WILL be damaged");
  await expect(store.unpack({ name: "a.png", data: { uri, sha256, size } })).rejects.toThrow(/SHA-256/);
  await store.put(Buffer.from("will be damaged"));
  expect(readFileSync(new URL(uri), "utf8")).toBe("will be damaged");
});

test("pictures stand in the message up to 256 KB together, the others are references", async () => {
  const large = { name: "large.png", bytes: Buffer.alloc(200_000, 1) };
  const packed = await store.pack([large, large, picture("small.png")]);
  expect(packed.map(({ data }) => data instanceof Uint8Array)).toEqual([true, false, true]);
  for (const [index, each] of packed.entries())
    expect(Buffer.from(await store.unpack(each)).equals([large, large, picture("")][index]!.bytes)).toBe(true);
});

test.each([
  ["another size", { size: 8 }, /has 9 bytes, wanted 8/],
  ["more bytes than are taken", { size: 1e12 }, /at most 1000000 are taken/],
  ["another hash", { sha256: "0".repeat(64) }, /SHA-256/],
  ["another scheme", { uri: "https://example.org/a.png" }, /is no file:/],
  ["another host", { uri: "file://elsewhere/a.png" }, /is no file:/],
  ["no URI", { uri: "a.png" }, /is no file:/],
  ["a path that goes up", { uri: `${pathToFileURL(folder.at("store")).href}/../outside` }, /is no file:/],
  ["a path that goes up, encoded", { uri: `${pathToFileURL(folder.at("store")).href}/%2e%2E/outside` }, /is no file:/],
  ["a file outside", { uri: "file:///etc/hostname" }, /no file of the store/],
  ["a link to the outside", { uri: pathToFileURL(folder.at("store/link")).href }, /no file of the store/],
  [
    "a folder that is a link to the outside",
    { uri: pathToFileURL(folder.at("store/linked/outside")).href },
    /no file of the store/,
  ],
  ["the store itself", { uri: pathToFileURL(folder.at("store")).href }, /no file of the store/],
  ["a device", { uri: pathToFileURL(folder.at("store/zero")).href }, /no file of the store/],
  ["nothing", { uri: pathToFileURL(folder.at("store/none")).href }, /is not there/],
])("a reference to %s is refused", async (_, changed, reason) => {
  const reference = await store.put(bytes);
  mkdirSync(folder.at("elsewhere"), { recursive: true });
  writeFileSync(folder.at("elsewhere/outside"), bytes);
  for (const [name, target] of Object.entries({ link: "elsewhere/outside", linked: "elsewhere" }))
    symlink(folder.at(target), name);
  symlink("/dev/zero", "zero");
  const refusal = store.unpack({ name: "a.png", data: { ...reference, ...changed } });
  await expect(refusal).rejects.toMatchObject({ code: "QEDIT_E_IMAGE", message: expect.stringMatching(reason) });
});

test("the first result that is kept holds; a damaged picture is no result", async () => {
  expect(await store.find(content)).toBeUndefined();
  const { sha256 } = await store.put(bytes);
  const first = { ...result, sha256 };
  expect(await store.keep(content, first, bytes)).toEqual(first);
  const other = Buffer.from("other bytes");
  const second = { ...result, sha256: (await store.put(other)).sha256 };
  expect(await store.keep(content, second, other)).toEqual(first);
  expect(await store.find(content)).toEqual(first);
  writeFileSync(new URL((await store.put(bytes)).uri), "A PICTURE");
  expect(await store.find(content)).toBeUndefined();
  expect(await store.keep(content, second, other)).toEqual(second);
});

test("a result that is no result is not read", async () => {
  for (const text of ["", "{", "null", '{"sha256":"../../etc/passwd"}']) {
    mkdirSync(folder.at("store/results/ab"), { recursive: true });
    writeFileSync(folder.at(`store/results/ab/${"ab".repeat(32)}.json`), text);
    expect(await store.find("ab".repeat(32))).toBeUndefined();
  }
});

function symlink(target: string, name: string): void {
  try {
    symlinkSync(target, folder.at(`store/${name}`));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
