// The vision tower, whichever way it is opened: whole, in groups of blocks, with a smaller plan after memory ran out.
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import type { Engine, Model } from "../../src/engine/sessions/engine.js";
import { visionConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { embeddedPicture, pictureFeeds } from "../../src/stages/networks/embed-prompt.js";
import { numbersOf, openModel } from "../../src/stages/networks/model-handle.js";
import { withVisionTower } from "../../src/stages/networks/open-vision-tower.js";
import { QeditError } from "../../src/std/errors.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { numbers } from "../graph/run.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { fixture } from "../support/golden.js";

const direct = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => direct.dispose());

/** An engine that has no room for some models. */
function narrow(isTooLarge: (model: Model) => boolean = () => false): Engine & { readonly opened: string[] } {
  const opened: string[] = [];
  return {
    opened,
    device: direct.device,
    async open(model) {
      opened.push(model.name);
      if (isTooLarge(model))
        throw new QeditError("QEDIT_E_MEMORY", `Cannot open ${model.name} on cpu: out of memory`, {
          hint: "Try a smaller picture: megapixels 0.5",
        });
      return direct.open(model);
    },
    dispose: async () => {},
  };
}

async function seen({
  engine = narrow(),
  vram,
  file: name = "text-encoder",
}: {
  engine?: Engine;
  vram?: number;
  file?: string;
}): Promise<{ embeds: Float32Array[]; events: ProgressEvent[] }> {
  const file = await openModel(fixture(`tiny/${name}.safetensors`), "textEncoder");
  const config = visionConfig(numbersOf(file.checkpoint), file.config);
  // Sides unlike each other, and more than a window along one of them.
  const grids = [
    [1, 6, 10],
    [1, 4, 4],
  ] as const;
  const values = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  const patches = grids.map((grid, index) => ({ pixelValues: numbers([grid[1] * grid[2], values], index), grid }));
  const events: ProgressEvent[] = [];
  const context = {
    engine,
    emit: (event: ProgressEvent) => void events.push(event),
    signal: new AbortController().signal,
    vram,
  };
  const run = { file, config, compute: "f32", tokens: 60 / config.mergeSize ** 2 } as const;
  const given = await withVisionTower(run, context, (tower) =>
    tower.run(patches.map((each) => pictureFeeds(each, config))),
  );
  return {
    embeds: given.map((each, index) => embeddedPicture(each, patches[index]!, { config, name: "x" }).embeds.data),
    events,
  };
}

test("sees the same whole and block by block, each block opened once for all pictures", async () => {
  const [whole, engine] = [await seen({}), narrow()];
  const streamed = await seen({ engine, vram: 1 });
  expect(whole.embeds).toHaveLength(2);
  streamed.embeds.forEach((each, index) =>
    expect(scaledError(each, whole.embeds[index]!)).toBeLessThanOrEqual(TOLERANCE.network),
  );
  expect(engine.opened.length).toBeGreaterThan(1);
  expect(new Set(engine.opened).size).toBe(engine.opened.length);
});

test("a limit has its plan told", async () => {
  const lines = async (vram?: number) =>
    (await seen(vram === undefined ? {} : { vram })).events.flatMap((event) =>
      event.kind === "plan" ? event.lines : [],
    );
  expect(await lines()).toEqual([]);
  expect(await lines(2 ** 30)).toEqual([expect.stringMatching(/^vision tower: .* of weights, all open; .* at most$/)]);
  expect(await lines(1)).toEqual([
    expect.stringMatching(/^vision tower: .* 0 of \d+ layers stay open, .* more than there is$/),
  ]);
});

test("out of memory takes the next smaller plan once, says so, and sees the same", async () => {
  const { embeds, events } = await seen({ engine: narrow(({ name }) => name === "the vision tower"), vram: 2 ** 30 });
  expect(events.flatMap((event) => (event.kind === "warning" ? [event.text] : []))).toEqual([
    expect.stringMatching(/^out of memory with the vision tower at .*: trying once more with less\. vision tower: /),
  ]);
  expect(scaledError(embeds[0]!, (await seen({})).embeds[0]!)).toBeLessThanOrEqual(TOLERANCE.network);
});

test("out of memory a second time is the end, with the switch to turn", async () => {
  const engine = narrow(() => true);
  await expect(seen({ engine, vram: 2 ** 30 })).rejects.toMatchObject({
    code: "QEDIT_E_MEMORY",
    hint: "Try fewer pictures",
  });
  expect(engine.opened).toHaveLength(2);
});
