// The store in a bucket, with servers of S3 that others wrote: moto in Python, and versitygw in Go where QEDIT_BUILD_TOOLS is set.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CreateBucketCommand, DeleteObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ClaimStore } from "../../../src/server/kafka/claim-store.js";
import { openStoreFiles } from "../../../src/server/kafka/store-files.js";
import { temporaryFolder } from "../../support/folder.js";
import { freePort } from "../../support/free-port.js";
import { builtTool } from "../../support/go-tools.js";
import { pythonWith } from "../../support/python.js";

const folder = temporaryFolder();
const KEYS = { AWS_ACCESS_KEY_ID: "writer", AWS_SECRET_ACCESS_KEY: "secret-of-the-writer" };
const moto = await pythonWith(["moto[server,s3]==5.2.5"]);
const versitygw = await builtTool("versitygw");

const bytes = Buffer.from("a picture");
const result = {
  ...{ sha256: "", type: "image/png", bytes: 9, width: 3, height: 2, seed: "7", device: "cpu" },
  ...{ drift: null, seconds: { sample: 1.5 }, recipe: "{}" },
};
const content = "c0".repeat(32);

const peers = [
  ["moto", moto, (port: number) => ["moto_server", "-H", "127.0.0.1", "-p", String(port)]],
  [
    "versitygw",
    versitygw,
    (port: number) => [
      ...["versitygw", "--port", `127.0.0.1:${port}`, "--quiet"],
      ...["--access", KEYS.AWS_ACCESS_KEY_ID, "--secret", KEYS.AWS_SECRET_ACCESS_KEY, "posix", folder.at("versitygw")],
    ],
  ],
] as const;

describe.each(peers)("with %s", (name, tool, command) => {
  let server: ChildProcess;
  let client: S3Client;
  beforeAll(async () => {
    if ("missing" in tool) return console.log(`${name} was not run: ${tool.missing}`);
    mkdirSync(folder.at(name), { recursive: true });
    const port = await freePort();
    const [program, ...args] = command(port) as [string, ...string[]];
    server = spawn(join(tool.bin, program), args, { cwd: folder.at(name), stdio: "ignore" });
    const endpoint = `http://127.0.0.1:${port}`;
    Object.assign(process.env, { ...KEYS, AWS_ENDPOINT_URL_S3: endpoint });
    client = new S3Client({ endpoint, forcePathStyle: true, region: "us-east-1" });
    for (let tries = 0; tries < 200; tries++) {
      if (await fetch(endpoint).catch(() => undefined)) break;
      await delay(100);
    }
    await client.send(new CreateBucketCommand({ Bucket: "pictures" }));
  });
  afterAll(async () => {
    if (server === undefined) return;
    server.kill("SIGKILL");
    await once(server, "exit");
    rmSync(folder.at(name), { recursive: true, force: true });
  });
  const skipped = "missing" in tool;

  test.skipIf(skipped)("bytes come back by their reference, small and large, and by no other", async () => {
    const store = new ClaimStore(await openStoreFiles("s3://pictures/of/qedit/"), 20_000_000);
    for (const each of [bytes, Buffer.alloc(12_000_000, 7)]) {
      const reference = await store.put(each);
      expect(reference.uri).toMatch(/^s3:\/\/pictures\/of\/qedit\/objects\/[0-9a-f]{2}\/[0-9a-f]{64}$/);
      expect(await store.put(each)).toEqual(reference);
      const back = await store.unpack({ name: "a.png", data: reference });
      expect(Buffer.from(back).equals(each)).toBe(true);
    }
    await client.send(new PutObjectCommand({ Bucket: "pictures", Key: "outside", Body: bytes }));
    const reference = await store.put(bytes);
    const changes = [
      [{ uri: "s3://pictures/outside" }, /no object of s3:\/\/pictures\/of\/qedit\//],
      [{ uri: "s3://pictures/of/qedit/../../outside" }, /no object of/],
      [{ uri: "s3://others/of/qedit/objects/a" }, /no object of/],
      [{ uri: "file:///etc/hostname" }, /no object of/],
      [{ uri: `${reference.uri}0` }, /is not there/],
      [{ sha256: "0".repeat(64) }, /SHA-256/],
      [{ size: 8 }, /has 9 bytes, wanted 8/],
    ] as const;
    for (const [changed, message] of changes)
      await expect(store.unpack({ name: "a.png", data: { ...reference, ...changed } })).rejects.toMatchObject({
        ...{ code: "QEDIT_E_IMAGE", message: expect.stringMatching(message) },
      });
    const careful = new ClaimStore(await openStoreFiles("s3://pictures/of/qedit"), 100);
    const large = await store.put(Buffer.alloc(12_000_000, 7));
    await expect(careful.unpack({ name: "a.png", data: { ...large, size: 10 } })).rejects.toThrow(
      /more than 100 bytes/,
    );
  });

  test.skipIf(skipped)("of results that are kept at once one holds; without its picture it is none", async () => {
    const store = new ClaimStore(await openStoreFiles("s3://pictures"), 1_000_000);
    expect(await store.find(content)).toBeUndefined();
    const pictures = ["a", "b", "c", "d"].map((text) => Buffer.from(text));
    const kept = await Promise.all(
      pictures.map(async (each) => store.keep(content, { ...result, sha256: (await store.put(each)).sha256 }, each)),
    );
    const [first] = kept;
    for (const each of kept) expect(each).toEqual(first);
    expect(await store.find(content)).toEqual(first);
    const key = `objects/${first!.sha256.slice(0, 2)}/${first!.sha256}`;
    await client.send(new DeleteObjectCommand({ Bucket: "pictures", Key: key }));
    expect(await store.find(content)).toBeUndefined();
    const next = { ...result, sha256: (await store.put(bytes)).sha256 };
    expect(await store.keep(content, next, bytes)).toEqual(next);
    expect(await store.find(content)).toEqual(next);
  });

  test.skipIf(skipped)("a bucket that is not there is named, with what to set", async () => {
    await expect(openStoreFiles("s3://nobodys-bucket/a")).rejects.toMatchObject({
      ...{ code: "QEDIT_E_USAGE", message: expect.stringContaining("nobodys-bucket: there is no such bucket") },
    });
  });
});

test.each(["s3://", "s3:pictures", "s3://x", "s3://Upper/a", "s3://bucket/../other"])(
  "%s is no store",
  async (location) => {
    await expect(openStoreFiles(location)).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
  },
);

test("a server that does not answer is a fault that passes", async () => {
  Object.assign(process.env, { ...KEYS, AWS_ENDPOINT_URL_S3: "http://127.0.0.1:9" });
  await expect(openStoreFiles("s3://pictures/a")).rejects.toMatchObject({ code: "QEDIT_E_NETWORK" });
});
