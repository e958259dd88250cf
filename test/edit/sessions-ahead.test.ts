// Networks that open before their stage: where the memory plan has them fit beside what computes then, and only there.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { openCache } from "../../src/artifacts/artifact-cache.js";
import type { FinishedPicture } from "../../src/edit/finish/finish.js";
import type { WrittenSettings } from "../../src/edit/recipe/recipe-settings.js";
import { clientInputs, clientNumbers } from "../../src/edit/remote/client-inputs.js";
import { memoizer } from "../../src/edit/service/context.js";
import { QueuedJob } from "../../src/edit/service/job.js";
import { Lane } from "../../src/edit/service/lane.js";
import type { SubmittedEdit } from "../../src/edit/service/open-edit.js";
import { memoryScratch } from "../../src/edit/service/scratch.js";
import { sessionPool } from "../../src/edit/service/session-pool.js";
import { readEditTensors } from "../../src/edit/tensors/edit-tensors.js";
import type { Engine, Model } from "../../src/engine/sessions/engine.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { samplingOf } from "../../src/stages/sample.js";
import { QeditError } from "../../src/std/errors.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { tinyEdit } from "../support/edits.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();
const engine = pairedEngine({ provider: "cpu", index: 0, threads: 1 });
beforeAll(() => void vi.stubEnv("QEDIT_HOME", folder.at("home")));
afterAll(async () => {
  vi.unstubAllEnvs();
  await engine.dispose();
});

// What a GPU computes in has no kernels on the CPU.
const IN_FLOAT32 = { dtype: "float32", textDtype: "float32", vaeDtype: "float32" };

const ROOMY = 24 * 1024 ** 3;
/** Room for the transformer beside the libraries of CUDA, but not beside the vision tower, nor for the decoder beside the transformer. */
const NARROW = 768 * 1024 ** 2 + 2 ** 20;

/** How long a stage waits for what should open meanwhile, milliseconds. */
const PATIENCE = 10_000;

interface Watched extends Engine {
  /** `opening X`, `opened X`, `closed X`, in the order in which they came. */
  readonly told: string[];
}

/** An engine that computes on the CPU what a GPU would be given. The language model, and the second step, wait for what `expected` says opens meanwhile. */
function likeCuda({
  expected = {},
  fails = () => false,
}: {
  expected?: Readonly<Record<string, string>>;
  fails?: (model: Model, told: readonly string[]) => boolean;
}): Watched {
  const told: string[] = [];
  const came = async (event: string | undefined) => {
    for (
      const start = performance.now();
      event !== undefined && !told.includes(event) && performance.now() - start < PATIENCE;
    )
      await new Promise((resolve) => setTimeout(resolve, 5));
  };
  return {
    told,
    device: { provider: "cuda", index: 0, threads: 1 },
    async open(model) {
      const name = model.name.replace(/^the /, "");
      told.push(`opening ${name}`);
      if (fails(model, told)) throw new QeditError("QEDIT_E_MEMORY", `Cannot open ${model.name}: out of memory`);
      const session = await engine.open(model);
      told.push(`opened ${name}`);
      return {
        async run(feeds) {
          await came(expected[name]);
          told.push(`running ${name}`);
          return session.run(feeds);
        },
        async dispose() {
          await session.dispose();
          told.push(`closed ${name}`);
        },
      };
    },
    dispose: async () => {},
  };
}

interface How {
  readonly vram?: number;
  readonly signal?: AbortSignal;
  readonly cache?: string;
  readonly settings?: WrittenSettings;
  /** What the edit is changed to. */
  readonly changed?: (edit: LocalEdit) => Promise<SubmittedEdit>;
}

type LocalEdit = Awaited<ReturnType<typeof tinyEdit>>;

/** The edit by tensors. */
async function byTensors(edit: LocalEdit): Promise<SubmittedEdit> {
  const { models, settings } = edit.resolved;
  const asked = {
    ...{ pictures: await edit.pictures(), prompt: settings.prompt, negativePrompt: undefined },
    ...{ sizes: { match: undefined, size: undefined, megapixels: 0.02 }, sampling: samplingOf(settings) },
  };
  const inputs = clientInputs(asked, clientNumbers(models), await loadTokenizer());
  return { ...edit, tensors: readEditTensors(inputs, { images: 1, hasCfg: false }, models) };
}

async function edited(
  inner: Engine,
  { vram, signal = new AbortController().signal, cache, settings = {}, changed = async (edit) => edit }: How,
): Promise<{ pixels: readonly number[]; events: ProgressEvent[] }> {
  const events: ProgressEvent[] = [];
  const emit = (event: ProgressEvent) => void events.push(event);
  const context = {
    engine: sessionPool(inner, { emit }),
    emit,
    signal,
    memoize: memoizer(),
    cache: cache === undefined ? undefined : openCache(cache, Infinity),
    vram,
  };
  let picture: FinishedPicture | undefined;
  const job = new QueuedJob({
    edit: {
      ...(await changed(await tinyEdit({ settings: { ...IN_FLOAT32, ...settings } }))),
      onPicture: async (made) => void (picture = made),
    },
    label: undefined,
    group: { maxFailures: 1, failures: 0 },
  });
  const lane = new Lane({
    context,
    concurrency: 1,
    memory: async () => undefined,
    openScratch: async () => memoryScratch(),
  });
  lane.add([job]);
  const outcome = await job.outcome;
  await lane.settled();
  if (outcome.state === "failed") throw outcome.error;
  return { pixels: Array.from(picture!.image.data as ArrayLike<number>), events };
}

const AHEAD = { "language model": "opening transformer", transformer: "opening VAE decoder" };

/** Claims that the events came in this order, whatever came between them. */
function inOrder(told: readonly string[], ...wanted: string[]): boolean {
  let from = 0;
  return wanted.every((each) => (from = told.indexOf(each, from) + 1) > 0);
}

/** Everything that was opened was closed, and nothing twice. */
function expectClosed({ told }: Watched): void {
  const count = (what: string) =>
    told
      .filter((event) => event.startsWith(what))
      .map((event) => event.slice(what.length))
      .sort();
  expect(count("closed ")).toEqual(count("opened "));
}

const plansOf = (events: readonly ProgressEvent[]) =>
  events.flatMap((event) => (event.kind === "plan" ? event.lines : [])).filter((line) => line.includes("opens during"));

test("the transformer opens while the prompt is encoded and the decoder while it is sampled, once each, for the same picture", async () => {
  const [plain, ahead] = [likeCuda({}), likeCuda({ expected: AHEAD })];
  const [wanted, given] = [await edited(plain, {}), await edited(ahead, { vram: ROOMY })];
  expect(
    inOrder(
      ahead.told,
      "opening transformer",
      "running language model",
      "closed language model",
      "running transformer",
    ),
  ).toBe(true);
  expect(
    inOrder(ahead.told, "opening VAE decoder", "running transformer", "closed transformer", "running VAE decoder"),
  ).toBe(true);
  expect(plansOf(given.events)).toEqual([
    "transformer: opens during encode-prompt, which it fits beside",
    "VAE decoder: opens during sample, which it fits beside",
  ]);
  expect([...ahead.told].filter((event) => event.startsWith("opening")).sort()).toEqual(
    plain.told.filter((event) => event.startsWith("opening")).sort(),
  );
  expect(given.pixels).toEqual(wanted.pixels);
  expectClosed(ahead);
});

test("networks open ahead for an edit by tensors too", async () => {
  const ahead = likeCuda({ expected: AHEAD });
  const { pixels, events } = await edited(ahead, { vram: ROOMY, changed: byTensors });
  expect(plansOf(events)).toEqual([
    "transformer: opens during encode-prompt, which it fits beside",
    "VAE decoder: opens during sample, which it fits beside",
  ]);
  expect(ahead.told.filter((event) => event === "opening VAE decoder")).toHaveLength(1);
  expect(pixels).toEqual((await edited(likeCuda({}), {})).pixels);
  expectClosed(ahead);
});

test.each([{ match: "comfyui" }, { keepSize: true }] as const)(
  "the decoder opens ahead once also with %o",
  async (settings) => {
    const ahead = likeCuda({ expected: AHEAD });
    const { pixels } = await edited(ahead, { vram: ROOMY, settings });
    expect(ahead.told.filter((event) => event === "opening VAE decoder")).toHaveLength(1);
    expect(inOrder(ahead.told, "opening VAE decoder", "closed transformer", "running VAE decoder")).toBe(true);
    expect(pixels).toEqual((await edited(likeCuda({}), { settings })).pixels);
  },
);

test("what does not fit beside it, or without a limit may not, opens when its turn comes", async () => {
  for (const vram of [NARROW, undefined]) {
    const each = likeCuda({});
    const { events } = await edited(each, vram === undefined ? {} : { vram });
    expect(plansOf(events)).toEqual([]);
    // One network after the other.
    const names = each.told.map(
      (event) => /VAE encoder|vision tower|language model|modulation|transformer|VAE decoder/.exec(event)![0],
    );
    expect(names.filter((name, index) => name !== names[index - 1])).toEqual([
      "VAE encoder",
      "vision tower",
      "language model",
      "modulation",
      "transformer",
      "VAE decoder",
    ]);
    expectClosed(each);
  }
});

test("what cannot open ahead opens when its turn comes, for the same picture", async () => {
  const failing = likeCuda({
    expected: { "language model": "opening transformer" },
    fails: ({ name }, told) => name === "the transformer" && !told.includes("closed language model"),
  });
  const { pixels, events } = await edited(failing, { vram: ROOMY });
  expect(pixels).toEqual((await edited(likeCuda({}), {})).pixels);
  expect(failing.told.filter((event) => event === "opening transformer")).toHaveLength(2);
  expect(events.flatMap((event) => (event.kind === "detail" ? [event.text] : []))).toContainEqual(
    expect.stringMatching(/^the transformer opens when it is wanted, not before: .*out of memory$/),
  );
  expect(events.filter(({ kind }) => kind === "warning")).toEqual([]);
  expectClosed(failing);
});

test("out of memory beside what is open ahead closes that, and tries once more", async () => {
  const failing = likeCuda({
    expected: AHEAD,
    fails: ({ name }, told) =>
      name === "the language model" && told.includes("opened transformer") && !told.includes("closed transformer"),
  });
  // Only the vision tower gives the transformer the time to open first.
  const waiting: Engine = {
    ...failing,
    async open(model) {
      const session = await failing.open(model);
      if (model.name !== "the vision tower") return session;
      return {
        ...session,
        async run(feeds) {
          for (
            const start = performance.now();
            !failing.told.includes("opened transformer") && performance.now() - start < PATIENCE;
          )
            await new Promise((resolve) => setTimeout(resolve, 5));
          return session.run(feeds);
        },
      };
    },
  };
  const { pixels } = await edited(waiting, { vram: ROOMY });
  expect(
    inOrder(
      failing.told,
      "opened transformer",
      "opening language model",
      "closed transformer",
      "opening language model",
      "opening transformer",
    ),
  ).toBe(true);
  expect(pixels).toEqual((await edited(likeCuda({}), {})).pixels);
  expectClosed(failing);
});

test("an error and an abort close also what was opened ahead", async () => {
  for (const stop of ["error", "abort"] as const) {
    const controller = new AbortController();
    const inner = likeCuda({ expected: AHEAD });
    const stopping: Engine = {
      ...inner,
      async open(model) {
        const session = await inner.open(model);
        if (model.name !== "the language model") return session;
        return {
          ...session,
          async run(feeds) {
            const result = await session.run(feeds);
            if (stop === "error") throw new Error("stopped");
            controller.abort(new Error("stopped"));
            return result;
          },
        };
      },
    };
    await expect(edited(stopping, { vram: ROOMY, signal: controller.signal })).rejects.toThrow("stopped");
    expect(inner.told).toContain("opened transformer");
    expect(inner.told).not.toContain("running transformer");
    expectClosed(inner);
  }
});

test("an edit whose results are all found opens nothing but the decoder", async () => {
  const cache = folder.at("cache");
  await edited(likeCuda({}), { vram: ROOMY, cache });
  const again = likeCuda({});
  await edited(again, { vram: ROOMY, cache });
  expect(again.told.filter((event) => event.startsWith("opening"))).toEqual(["opening VAE decoder"]);
});
