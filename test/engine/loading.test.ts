// Loading ONNX Runtime from qedit's own folder, in processes that open a CPU session.
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { CORE_FILE, installedRelease, PROVIDER_FILES } from "../../src/engine/cuda/release.js";
import { elf, provider } from "../support/elf.js";
import { temporaryFolder } from "../support/folder.js";
import { RUN_TYPESCRIPT } from "../support/golden.js";

const folder = temporaryFolder();
const release = installedRelease();
const LOADING = new URL("../../src/engine/sessions/loading.ts", import.meta.url).href;
const DEVICE = new URL("../../src/engine/device.ts", import.meta.url).href;

// Runs a module in a process with this home; returns its stdout.
async function printed(code: string, home: string): Promise<string> {
  const env = { PATH: process.env["PATH"], HOME: folder.at(home) };
  // From a file: worker threads would inherit --eval.
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", RUN_TYPESCRIPT, folder.write(`${home}.mjs`, code)],
    {
      env,
    },
  );
  return stdout.trim();
}

const MAPS = 'import { readFileSync } from "node:fs"; const maps = () => readFileSync("/proc/self/maps", "utf8");';

describe.runIf(process.platform === "linux")("loadLibrary", () => {
  test("loads a library and does not unload it", async () => {
    mkdirSync(folder.at("copy"));
    const path = folder.at("copy/libcopy.so");
    copyFileSync(join(release.folder, CORE_FILE), path);
    expect(
      await printed(
        `${MAPS} import { loadLibrary } from "${LOADING}"; console.log(loadLibrary("${path}"), maps().includes("${path}"));`,
        "none",
      ),
    ).toBe("undefined true");
  });

  test("returns the loader's message", async () => {
    const path = folder.write("lacking/libx.so", elf({ needed: ["libqedit_none.so.1"] }));
    expect(
      await printed(`import { loadLibrary } from "${LOADING}"; console.log(loadLibrary("${path}"));`, "none"),
    ).toBe("libqedit_none.so.1: cannot open shared object file: No such file or directory");
  });
});

describe.runIf(release.hasCuda)("qedit's own folder of the runtime", () => {
  const own = (home: string) => `${home}/.local/share/qedit/runtime/onnxruntime-${release.version}-${release.platform}`;
  const fill = (home: string) => {
    folder.write(`${own(home)}/${PROVIDER_FILES[0]}`, provider(release.version, ["libcublas.so.13"]));
    folder.write(`${own(home)}/${PROVIDER_FILES[1]}`, elf());
  };
  const CODE = `${MAPS} import { tryDevice } from "${DEVICE}";
    const { works } = await tryDevice("cpu");
    console.log(works, maps().split("\\n").find((line) => line.endsWith("${CORE_FILE}"))?.split(/\\s+/).at(-1));`;

  test("is where ONNX Runtime is loaded from when it is complete, for the CPU too", async () => {
    fill("whole");
    copyFileSync(join(release.folder, CORE_FILE), folder.at(`${own("whole")}/${CORE_FILE}`));
    expect(await printed(CODE, "whole")).toBe(`true ${folder.at(own("whole"))}/${CORE_FILE}`);
  });

  test("is not used when it is incomplete", async () => {
    fill("part");
    expect(await printed(CODE, "part")).toBe(`true ${release.folder}/${CORE_FILE}`);
  });
});
