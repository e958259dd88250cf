// Many edits at a time in one process: each gives what it gives alone, and they share sessions.
import { expect, test } from "vitest";
import { modelLibrary } from "../../src/edit/resolve/model-library.js";
import { readPictures } from "../../src/stages/pictures.js";
import type { TinyEdit } from "../support/edits.js";
import { fixture } from "../support/golden.js";
import { states, watched, withService } from "../support/services.js";

const ROCKET = await readPictures([fixture("images/rocket.jpg")]);
const BOTH = await readPictures([fixture("images/cat.jpg"), fixture("images/rocket.jpg")]);
const LORA = { path: fixture("tiny/loras/published.safetensors"), strength: 0.7 };

/** Twenty edits that differ in what they share: pictures, prompts, sizes, guidance, LoRAs, samplers, seeds. */
function mixed(): TinyEdit[] {
  const library = modelLibrary();
  const kinds: TinyEdit[] = [
    {},
    { pictures: ROCKET, settings: { prompt: "make it night", seed: "7" } },
    { loras: [LORA], settings: { seed: "3" } },
    { settings: { cfg: 2.5, negativePrompt: "dark", sampler: "heun" } },
    { pictures: BOTH, settings: { prompt: "put picture 2 beside picture 1", megapixels: 0.01 } },
  ];
  return Array.from({ length: 20 }, (_, index) => {
    const { settings, ...kind } = kinds[index % kinds.length]!;
    return { ...kind, library, settings: { ...settings, ...(index >= 10 && { seed: String(100 + index) }) } };
  });
}

test("20 mixed edits, 4 at a time, give the bytes that each gives alone, and share sessions", async () => {
  const edits = mixed();
  const alone: Uint8Array[] = [];
  for (const each of edits) {
    const { edit, bytes } = await watched(each);
    await withService({}, async ({ service }) => expect((await service.submit(edit).outcome).state).toBe("done"));
    alone.push(bytes()!);
  }
  await withService({ concurrency: 4, memory: Infinity, keepAlive: 60_000 }, async ({ service, events }) => {
    const jobs = await Promise.all(edits.map(watched));
    const outcomes = await Promise.all(service.submitAll(jobs.map(({ edit }) => edit)).map(({ outcome }) => outcome));
    expect(states(outcomes)).toEqual(Array(20).fill("done"));
    for (const [index, { bytes }] of jobs.entries()) expect(Buffer.from(bytes()!).equals(alone[index]!)).toBe(true);
    // One session for each graph: two of the VAE, two of the text encoder, the transformer with and without a LoRA.
    const opened = events.flatMap((event) =>
      event.kind === "session" && event.action === "opened" ? [event.network] : [],
    );
    expect(opened.sort()).toEqual([
      "language-model",
      "transformer",
      "transformer",
      "vae-decoder",
      "vae-encoder",
      "vision-tower",
    ]);
  });
});
