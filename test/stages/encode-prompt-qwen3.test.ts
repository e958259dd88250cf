// encode-prompt with a Qwen3-VL text encoder, as Qwen-Image-2.1 reads its results.
import { describe, expect, test } from "vitest";
import { floatTensor, readArtifact } from "../../src/artifacts/artifact.js";
import { expectRefusal, qedit } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture, readGolden } from "../support/golden.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";

const folder = temporaryFolder();
const CAT = fixture("images/cat.jpg");
const ROCKET = fixture("images/rocket.jpg");
const encoder = await tinyTextEncoder2({ folder: folder.path });
const here = { cwd: folder.path, env: { QEDIT_HOME: folder.at("home") } };
const ENCODE = ["encode-prompt", "--text-encoder", encoder, "--no-cache"];

async function cond(name: string, args: readonly string[]) {
  const ended = await qedit([...ENCODE, ...args, "-o", `${name}.safetensors`], here);
  expect(ended.code, ended.stderr).toBe(0);
  const artifact = await readArtifact(folder.at(`${name}.safetensors`), "cond");
  const { data: positions } = artifact.tensors["image_positions"]!;
  return {
    ...artifact,
    embeds: floatTensor(artifact, "prompt_embeds")!,
    negative: floatTensor(artifact, "negative_prompt_embeds"),
    positions: [...positions],
    record: artifact.info.settings["encode_prompt"] as Record<string, unknown>,
  };
}

test("hidden states are those of the text alone, with the places of the pictures among them", async () => {
  const none = await cond("none", ["-p", "make it sepia"]);
  const two = await cond("two", [CAT, ROCKET, "-p", "make it sepia", "--negative-prompt", "", "--megapixels", "0.05"]);
  expect([none.positions, two.positions]).toEqual([[], [8, 14]]);
  // "<image1>" and " <image2>" are four tokens each, and then there are the ends of the picture.
  expect(two.embeds.shape[1]! - none.embeds.shape[1]!).toBe(2 * (4 + 2));
  expect(two.negative!.shape[1]).toBeLessThan(two.embeds.shape[1]!);
  expect([...two.tensors["negative_image_positions"]!.data]).toEqual([8, 14]);
  expect(two.record).toMatchObject({ family: "Qwen3-VL", template: "qwen-image-2.1 1", megapixels: 0.05, size: null });
  // The sizes of the references: 288x192 and 160x288.
  expect(two.info.sizes["vision_grids"]).toEqual([
    [1, 12, 18],
    [1, 18, 10],
  ]);
});

describe("an empty prompt", () => {
  test("is refused unless it is allowed", async () => {
    expectRefusal(await qedit([...ENCODE, CAT, "-p", "", "-o", "empty.safetensors"], here), {
      code: 2,
      message: /empty prompt/,
    });
  });

  test("reads as a space where it is allowed", async () => {
    const { embeds } = await cond("empty", [CAT, "-p", "", "--allow-empty-prompt", "--megapixels", "0.05"]);
    // As many as diffusers' pipeline keeps of it.
    expect(embeds.shape).toEqual((await readGolden("text-encoder", "tiny-2")).get("empty.prompt_embeds").shape);
  });
});

test("sizes have no effect on a text encoder that sees pictures at a size of its own", async () => {
  const args = [
    "encode-prompt",
    "--model",
    "tiny",
    CAT,
    "-p",
    "make it sepia",
    "--megapixels",
    "0.1",
    "-o",
    "old.safetensors",
  ];
  expectRefusal(await qedit(args, here), {
    code: 2,
    message:
      /Cannot use --megapixels with tiny_text_encoder.*: a Qwen2\.5-VL text encoder sees pictures at a size of its own/,
  });
});
