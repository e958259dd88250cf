// Requests for single stages as they are read: what each stage needs of a request, and what is refused by name.
import { expect, test } from "vitest";
import type { Artifact } from "../../../src/artifacts/artifact.js";
import { readSettings } from "../../../src/edit/recipe/recipe-settings.js";
import { REQUEST_PARAMETERS, type RequestSettings } from "../../../src/edit/request/edit-request.js";
import { modelLibrary } from "../../../src/edit/resolve/model-library.js";
import { ClaimStore } from "../../../src/server/kafka/claim-store.js";
import { type StageRequest, stageRequestMessage } from "../../../src/server/kafka/kafka-messages.js";
import { readStageWork, secondsOf } from "../../../src/server/kafka/stage-requests.js";
import { StageStore } from "../../../src/server/kafka/stage-store.js";
import { FolderFiles } from "../../../src/server/kafka/store-files.js";
import { DEFAULT_LIMITS } from "../../../src/server/limits.js";
import { STAGES, type StageName } from "../../../src/stages/stage.js";
import { float32 } from "../../../src/std/tensor.js";
import { temporaryFolder } from "../../support/folder.js";

const folder = temporaryFolder();
const store = new ClaimStore(new FolderFiles(folder.at("store")), 1_000_000);
const artifacts = new StageStore(store);
const settings = { ...readSettings(REQUEST_PARAMETERS, { model: "tiny" }), mask: undefined } as RequestSettings;
const server = { base: { settings, given: new Map() }, library: modelLibrary(), limits: DEFAULT_LIMITS };

const images = [{ name: "cat.jpg", data: Buffer.from("a picture") }];
const asked = { images, mask: null, parameters: { prompt: "make it sepia", steps: 4, model: "tiny" } };

function at(stage: StageName, change: Partial<StageRequest> = {}): StageRequest {
  const request = stageRequestMessage("job-1", STAGES, asked);
  return { ...request, envelope: { ...request.envelope, cursor: STAGES.indexOf(stage) }, ...change };
}
const read = (request: StageRequest) =>
  readStageWork(request, STAGES.slice(request.envelope.cursor), { store, artifacts, server, emit: () => {} });

const sent = async (kind: "samples" | "latents", info: Partial<Artifact["info"]> = {}, side = 2) => {
  const name = kind === "samples" ? "latent_tensor" : "latent";
  const tensors = { [name]: float32([1, 16, side, side], new Float32Array(16 * side * side)) };
  const whole = { settings: {}, sizes: {}, inputs: {}, weights: {}, ...info };
  return (await artifacts.keep(`${Math.random()}`, { kind, tensors, info: whole }, 1)).artifact;
};

test("each stage opens its own model file alone, and all know the numbers of the whole edit", async () => {
  const work = [await read(at("encode-image")), await read(at("encode-prompt"))];
  expect(work.map(({ models }) => Object.keys(models))).toEqual([["vae"], ["textEncoder"]]);
  for (const { settings: own, pictures } of work) {
    expect(own).toMatchObject({ steps: 4, prompt: "make it sepia" });
    expect(pictures).toMatchObject([{ name: "cat.jpg" }]);
  }
});

test("only sampling looks for LoRAs", async () => {
  const lora = ["on-another-machine.safetensors"];
  const change = { parameters: { ...asked.parameters, lora } };
  expect((await read(at("encode-image", change))).values.lora).toEqual(lora);
  await expect(read(at("sample", change))).rejects.toMatchObject({ code: "QEDIT_E_MODEL_MISSING" });
  const path = { parameters: { ...asked.parameters, lora: ["/etc/passwd"] } };
  await expect(read(at("encode-image", path))).rejects.toThrow(/it would name a file of the server/);
});

test("a seed that is left to chance is the same at every stage", async () => {
  const change = { parameters: { ...asked.parameters, seed: "random" } };
  const [one, other] = [await read(at("encode-image", change)), await read(at("encode-prompt", change))];
  expect(one.isDrawn).toBe(true);
  expect(one.settings.seed).toBe(other.settings.seed);
});

test("a picture is not decoded with another VAE than its pictures were encoded with", async () => {
  const own = (await read(at("encode-image"))).models.vae!.identity;
  const known = { artifacts: [await sent("samples", { weights: { vae: own } })] };
  expect((await read(at("decode", known))).artifacts.samples!.kind).toBe("samples");
  const other = { artifacts: [await sent("samples", { weights: { vae: "ab".repeat(32) } })] };
  const refusal = { code: "QEDIT_E_CHECKPOINT", message: expect.stringMatching(/encoded with another VAE \(ababab/) };
  await expect(read(at("decode", other))).rejects.toMatchObject(refusal);
  const request = at("decode", other);
  // Samples that the client brings are its own affair, as on the command line.
  const late = { ...request, envelope: { ...request.envelope, workflow: ["decode"], cursor: 0 } };
  const parts = { store, artifacts, server, emit: () => {} };
  expect((await readStageWork(late, ["decode"], parts)).artifacts.samples).toBeDefined();
});

test("a stage that runs elsewhere opens no model file here", async () => {
  const change = { artifacts: [await sent("samples", { weights: { vae: "ab".repeat(32) } })] };
  const elsewhere = { ...server, library: modelLibrary(new Set(["decode"])) };
  const parts = { store, artifacts, server: elsewhere, emit: () => {} };
  const work = await readStageWork(at("decode", change), ["decode"], parts);
  expect(work).toMatchObject({ models: {}, called: { model: "tiny" } });
});

test.each([
  ["more pixels than are allowed", {}, 300, /tensor "latent_tensor": it is of 5\.49 megapixels/],
  [
    "a record that cannot be worked with",
    { sizes: { target: { box: 7 }, images: [] } },
    2,
    /without a box in picture 1/,
  ],
])("an artifact of %s is refused", async (_, info, side, reason) => {
  const samples = await new StageStore(new ClaimStore(new FolderFiles(folder.at("store")), 10_000_000)).keep(
    `large-${side}`,
    {
      kind: "samples",
      tensors: { latent_tensor: float32([1, 16, side, side], new Float32Array(16 * side * side)) },
      info: { settings: {}, sizes: {}, inputs: {}, weights: {}, ...info },
    },
    1,
  );
  const large = new ClaimStore(new FolderFiles(folder.at("store")), 10_000_000);
  const parts = { store: large, artifacts: new StageStore(large), server, emit: () => {} };
  const refusal = readStageWork(at("decode", { artifacts: [samples.artifact] }), ["decode"], parts);
  await expect(refusal).rejects.toMatchObject({ code: "QEDIT_E_ARTIFACT", message: expect.stringMatching(reason) });
});

test("seconds are those of the stages before, and numbers", () => {
  const seconds = { "encode-image": 0.5, "encode-prompt": Number.NaN, sample: 3, elsewhere: 1 };
  expect(secondsOf(at("sample", { seconds }))).toEqual({ "encode-image": 0.5 });
});
