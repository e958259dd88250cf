// Single stages on a service, with artifacts that clients bring: what they make, and what is refused before it is computed.
import { expect, test } from "vitest";
import type { Artifact } from "../../../src/artifacts/artifact.js";
import type { RequestSettings } from "../../../src/edit/request/edit-request.js";
import {
  checkStage,
  makeArtifact,
  makePicture,
  type StageWork,
  stageContent,
} from "../../../src/server/kafka/stage-work.js";
import { readPictures } from "../../../src/stages/pictures.js";
import type { StageName } from "../../../src/stages/stage.js";
import { tinyEdit } from "../../support/edits.js";
import { fixture } from "../../support/golden.js";
import { withService } from "../../support/services.js";

const [cat] = await readPictures([fixture("images/cat.jpg")]);
const [rocket] = await readPictures([fixture("images/rocket.jpg")]);
const originals = { pictures: [cat!], mask: undefined };

async function workOf(stage: StageName, given: Partial<StageWork> = {}, settings = {}): Promise<StageWork> {
  const { resolved } = await tinyEdit({ settings });
  const values = { format: "png" } as unknown as RequestSettings;
  const own = { stage, job: "job-1", values, isDrawn: false, pictures: [], mask: undefined, artifacts: {}, hashes: {} };
  return { ...resolved, ...own, ...given };
}

/** Samples of the cat, and the same as another tool saves them. */
async function sampled(): Promise<{ own: Artifact; foreign: Artifact }> {
  return withService({}, async ({ service }) => {
    const latents = await makeArtifact(await workOf("encode-image"), originals, { service });
    const cond = await makeArtifact(await workOf("encode-prompt"), originals, { service });
    const own = await makeArtifact(await workOf("sample", { artifacts: { latents, cond } }), originals, { service });
    return { own, foreign: { ...own, info: { settings: {}, sizes: {}, inputs: {}, weights: {} } } };
  });
}
const { own, foreign } = await sampled();

const decoded = (samples: Artifact, pictures = [cat!], settings = {}) =>
  withService({}, async ({ service }) => {
    const work = await workOf("decode", { artifacts: { samples } }, settings);
    await checkStage(work, { pictures, mask: undefined }, { service, ahead: ["decode"] });
    const kinds: string[] = [];
    const emit = ({ kind }: { readonly kind: string }) => void kinds.push(kind);
    const { image } = await makePicture(work, { pictures, mask: undefined }, { service, emit });
    return { image, isMeasured: kinds.includes("drift") };
  });

test("samples are finished with their picture 1, and those of another tool without it", async () => {
  const [finished, plain] = [await decoded(own), await decoded(foreign)];
  expect([finished.isMeasured, plain.isMeasured]).toEqual([true, false]);
  expect(plain.image).toEqual(finished.image);
  expect((await decoded(own, [])).image).toEqual(finished.image);
});

test.each([
  ["another picture 1", own, [rocket!], {}, /made of another picture 1/],
  ["no picture to paste from", own, [], { pasteBack: true }, /there is no picture 1/],
  ["no picture whose EXIF is kept", own, [], { keepExif: true }, /there is no picture 1/],
  ["nothing that says where to paste", foreign, [cat!], { pasteBack: true }, /do not say what of picture 1/],
] as const)("samples with %s are refused", async (_, samples, pictures, settings, reason) => {
  await expect(decoded(samples, [...pictures], settings)).rejects.toThrow(reason);
});

test("samples whose record tells another size are refused", async () => {
  const { sizes } = own.info as unknown as { sizes: { target: object } };
  const steps = [{ kind: "resize", size: { width: 24, height: 16 }, method: "area" }];
  const forged = { ...own, info: { ...own.info, sizes: { ...sizes, target: { ...sizes.target, steps } } } };
  await expect(decoded(forged)).rejects.toThrow(/their record says 24x16/);
});

test("the result of a stage is named by what determines it, and by nothing else", async () => {
  const bytes = Buffer.from("a picture");
  const pictures = [{ name: "cat.jpg", bytes }];
  const of = async (stage: StageName, given: Partial<StageWork> = {}, settings = {}) =>
    stageContent(await workOf(stage, { pictures, ...given }, settings));
  const [image, prompt] = [await of("encode-image"), await of("encode-prompt")];
  expect(await of("encode-image", {}, { seed: "7", prompt: "mirror it", tile: 256, steps: 9 })).toBe(image);
  expect(await of("encode-prompt", {}, { seed: "7", steps: 9 })).toBe(prompt);
  const mask = { name: "mask.png", bytes };
  expect(await of("encode-image", { mask })).toBe(image);
  const others = [
    of("encode-image", {}, { megapixels: 0.5 }),
    of("encode-image", { pictures: [{ name: "dog.jpg", bytes }] }),
    of("encode-image", { pictures: [{ name: "cat.jpg", bytes: Buffer.from("another") }] }),
    of("encode-image", { pictures: [...pictures, ...pictures] }),
    of("encode-image", { mask }, { cropMask: true }),
    of("encode-image", { mask }, { cropMask: true, maskMargin: 3 }),
    of("encode-prompt", {}, { prompt: "mirror it" }),
    // Some text encoders see pictures at the sizes of the result.
    of("encode-prompt", {}, { megapixels: 0.5 }),
    of("sample"),
    of("sample", {}, { seed: "7" }),
    of("sample", { hashes: { latents: "ab" } }),
    of("decode"),
    of("decode", { mask }),
    of("decode", { hashes: { samples: "ab" } }),
    of("decode", {}, { keepSize: true }),
    of("decode", { values: { format: "jpg" } as unknown as RequestSettings }),
  ];
  const names = [image, prompt, ...(await Promise.all(others))];
  expect(new Set(names).size).toBe(names.length);
});

test("what servers elsewhere make of weights that are not known here is a result of its job alone", async () => {
  const content = async (model: string, job: string) =>
    stageContent(await workOf("sample", { job, models: {}, called: { model, lora: [] } }));
  expect(await content("tiny", "a")).toBe(await content("tiny", "b"));
  expect(await content("qwen-image-edit-2509", "a")).toBe(await content("qwen-image-edit-2509", "a"));
  expect(await content("qwen-image-edit-2509", "a")).not.toBe(await content("qwen-image-edit-2509", "b"));
});
