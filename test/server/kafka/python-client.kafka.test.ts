// The Python client of docs/kafka.md, as it stands there, against a worker.
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, inject, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { pythonWith } from "../../support/python.js";
import { startServer } from "../../support/server.js";
import { ran } from "../ran.js";
import { openTestClient } from "./kafka-client.js";

const folder = temporaryFolder();
const page = readFileSync(new URL("../../../docs/kafka.md", import.meta.url), "utf8");
const python = await pythonWith(["fastavro", "kafka-python"]);
const brokers = inject("kafkaBrokers");

test.skipIf("missing" in python)(
  "a client in Python sends an edit and gets the bytes of the command line",
  async () => {
    const [, code = ""] = /```python\n(.*?)```/s.exec(page) ?? [];
    await (await openTestClient(brokers)).close();
    mkdirSync(folder.at("worker"));
    const args = ["--kafka", brokers, "--store", folder.at("store"), "--no-cache"];
    const worker = await startServer({ folder: folder.at("worker"), args });
    copyFileSync(CAT, folder.at("photo.jpg"));
    for (const name of ["run.request", "run.response"])
      copyFileSync(
        new URL(`../../../src/server/kafka/schemas/${name}.v1.avsc`, import.meta.url),
        folder.at(`${name}.avsc`),
      );
    writeFileSync(folder.at("client.py"), code.replace('"localhost:9092"', JSON.stringify(brokers)));
    const { bin } = python as { bin: string };
    await promisify(execFile)(join(bin, "python"), ["client.py"], { cwd: folder.path, timeout: 90_000 });
    const fields = { prompt: "make it sepia", seed: "7", megapixels: "0.1", steps: "4" };
    const made = await ran([folder.at("photo.jpg")], fields, folder);
    expect(readFileSync(folder.at("sepia.png")).equals(made)).toBe(true);
    await worker.stop();
  },
);
