import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Full-size graphs and real processes take seconds on two cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    // Worker threads and child processes of the engine run src as it is.
    execArgv: ["--import", fileURLToPath(new URL("test/support/run-typescript.mjs", import.meta.url))],
  },
});
