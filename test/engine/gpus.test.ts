// GPUs from nvidia-smi: its output, and scripts in its place.
import { chmodSync } from "node:fs";
import { dirname } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { findGpus, parseGpus } from "../../src/engine/cuda/gpus.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();
const MIB = 1024 ** 2;
afterEach(() => {
  vi.unstubAllEnvs();
});

describe("parseGpus", () => {
  test("reads one line per GPU", () => {
    const printed =
      "0, NVIDIA H200, 580.95.05, 143771, 143156, 9.0\n1, NVIDIA GeForce RTX 4090, 580.95.05, 24564, 1000, 8.9\n";
    expect(parseGpus(printed)).toEqual([
      {
        index: 0,
        name: "NVIDIA H200",
        driver: "580.95.05",
        memory: 143771 * MIB,
        freeMemory: 143156 * MIB,
        capability: "9.0",
      },
      {
        index: 1,
        name: "NVIDIA GeForce RTX 4090",
        driver: "580.95.05",
        memory: 24564 * MIB,
        freeMemory: 1000 * MIB,
        capability: "8.9",
      },
    ]);
  });

  test("has undefined for what nvidia-smi does not report, such as the memory of a GB10", () => {
    expect(parseGpus("0, NVIDIA GB10, 580.82, [N/A], [Not Supported], 12.1\n")).toEqual([
      { index: 0, name: "NVIDIA GB10", driver: "580.82", memory: undefined, freeMemory: undefined, capability: "12.1" },
    ]);
  });

  test.each([
    "",
    "No devices were found\n",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
  ])("finds none in %j", (printed) => {
    expect(parseGpus(printed)).toEqual([]);
  });
});

// Puts a script of that name on PATH, alone.
function nvidiaSmi(name: string, script: string): void {
  const path = folder.write(`${name}/nvidia-smi`, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  vi.stubEnv("PATH", dirname(path));
}

describe.runIf(process.platform === "linux")("findGpus", () => {
  test("runs nvidia-smi", async () => {
    nvidiaSmi("good", 'case "$1" in --query-gpu=index,*) echo "0, NVIDIA L4, 580.1, 23034, 22000, 8.9";; esac');
    expect(await findGpus()).toMatchObject({
      gpus: [{ index: 0, name: "NVIDIA L4" }],
      source: "nvidia-smi",
      failure: undefined,
    });
  });

  test("skips one without permission to run it", async () => {
    nvidiaSmi("locked", "exit 1");
    chmodSync(folder.at("locked/nvidia-smi"), 0o644);
    expect((await findGpus()).failure ?? "").not.toContain("EACCES");
  });

  test("returns the first line of its output when it fails", async () => {
    nvidiaSmi("bad", 'echo "NVIDIA-SMI has failed because it could not talk to the driver."; echo "More."; exit 9');
    expect((await findGpus()).failure).toBe("NVIDIA-SMI has failed because it could not talk to the driver.");
  });
});
