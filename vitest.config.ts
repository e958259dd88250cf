import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** What takes long: whole edits with their numbers and bytes, parity, every command of the documentation, headers of full size. `.ci/run` has it. */
const SLOW = [
  "test/cli/cache.test.ts",
  "test/cli/client-lost.test.ts",
  "test/cli/colours.test.ts",
  "test/cli/crop-mask.test.ts",
  "test/cli/golden-edits.test.ts",
  "test/cli/keep-exif.test.ts",
  "test/cli/memory.test.ts",
  "test/cli/prompt-files.test.ts",
  "test/cli/qwen-image-2.test.ts",
  "test/cli/results.test.ts",
  "test/cli/sampling-options.test.ts",
  "test/cli/tiny.test.ts",
  "test/docs/commands.test.ts",
  "test/docs/serving-examples.test.ts",
  "test/docs/triton-python.test.ts",
  "test/edit/mixed-edits.test.ts",
  "test/edit/sessions-ahead.test.ts",
  "test/export/full-size-models.test.ts",
  "test/export/whole-edits.test.ts",
  "test/export/triton/descriptor.test.ts",
  "test/export/triton/full-size-export.test.ts",
  "test/models/full-size.test.ts",
  "test/models/full-width-qwen-image-2.test.ts",
  "test/models/vae-2-full-width.test.ts",
  "test/parity/**/*.test.ts",
  "test/server/http/picture-memory.test.ts",
  "test/server/http/restarts.test.ts",
  "test/server/kafka/store-bucket.test.ts",
  "test/server/mcp/mcp-streams.test.ts",
  "test/stages/planned-memory.test.ts",
];

/** What takes longest and rarely fails: networks of full width, measured memory, many edits on several machines, clients that are fetched. */
const NIGHTLY = [
  "test/cli/adapted.test.ts",
  "test/cli/client-pictures.test.ts",
  "test/cli/exported-qwen-image-2.test.ts",
  "test/cli/model-files.test.ts",
  "test/cli/quantised.test.ts",
  "test/cli/remote-exports.test.ts",
  "test/cli/remote-servers.test.ts",
  "test/cli/rerun.test.ts",
  "test/cli/terminal-preview-places.test.ts",
  "test/deploy/buildah.test.ts",
  "test/deploy/judges.test.ts",
  "test/docs/kserve-examples.test.ts",
  "test/docs/triton-clients.test.ts",
  "test/edit/planned-process.test.ts",
  "test/edit/remote/exported-answers.test.ts",
  "test/edit/remote/stage-answers.test.ts",
  "test/engine/arena.test.ts",
  "test/engine/kernels.test.ts",
  "test/export/older-runtime.test.ts",
  "test/export/triton/older-runtime.test.ts",
  "test/export/triton/verified-exports.test.ts",
  "test/models/full-size-gguf.test.ts",
  "test/server/http/python-clients.test.ts",
  "test/server/kserve/ensemble-edits.test.ts",
  "test/server/kserve/large-tensors.test.ts",
  "test/server/page-chromium.test.ts",
  "test/server/page-generates.test.ts",
  "test/server/watch/watch-folder.test.ts",
  "test/stages/full-width.test.ts",
];

/** What replaces modules: in a process that has imported none of them, and that runs no other file. */
const MOCKED = ["test/**/*.mocked.test.ts"];

/** What needs a Kafka broker: `npm run test:kafka`. */
const KAFKA = ["test/**/*.kafka.test.ts"];

/** What fetches tools that judge deploy/, or builds the container: `npm run test:deploy`. */
const DEPLOY = ["test/**/*.deploy.test.ts"];

/** Begins with the projects whose files take longest, so that none is left to wait for at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const order = ["deploy", "nightly", "slow", "mocked", "quick"];
    const place = ({ project }: TestSpecification) => order.indexOf(project.name);
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}

const TEST = "test/**/*.test.ts";

export default defineConfig({
  test: {
    // Full-size graphs and real processes take seconds on two cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    setupFiles: fileURLToPath(new URL("test/support/setup.ts", import.meta.url)),
    // Some tests take gigabytes.
    maxWorkers: Math.min(Math.max(availableParallelism(), 2), 4),
    sequence: { sequencer: LongestFirst },
    // Worker threads and child processes of the engine run src as it is.
    execArgv: ["--import", fileURLToPath(new URL("test/support/run-typescript.mjs", import.meta.url))],
    projects: [
      {
        extends: true,
        // Modules hold no state, so that files need no process of their own, whose start takes half a second.
        test: {
          name: "quick",
          isolate: false,
          include: [TEST],
          exclude: [...SLOW, ...NIGHTLY, ...MOCKED, ...KAFKA, ...DEPLOY],
        },
      },
      { extends: true, test: { name: "mocked", include: MOCKED } },
      { extends: true, test: { name: "slow", include: SLOW } },
      { extends: true, test: { name: "nightly", include: NIGHTLY } },
      { extends: true, test: { name: "deploy", include: DEPLOY } },
      {
        extends: true,
        test: { name: "kafka", include: KAFKA, globalSetup: "test/support/kafka-setup.ts", fileParallelism: false },
      },
    ],
  },
});
