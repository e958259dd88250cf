// Files of weights that are replaced while a service keeps networks open: an edit is made with what the files hold, as its record says.
import { copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type ModelLibrary, modelLibrary } from "../../src/edit/resolve/model-library.js";
import type { EditService } from "../../src/edit/service/service.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { watched, withService } from "../support/services.js";

const folder = temporaryFolder();
const lora = folder.at("lora.safetensors");
const transformer = folder.at("transformer.safetensors");
const FILES = [
  { name: "a LoRA", path: lora, original: fixture("tiny/loras/published.safetensors"), turns: /lora_up|lora_B/ },
  {
    name: "a transformer",
    path: transformer,
    original: fixture("tiny/transformer.safetensors"),
    turns: /^proj_out\.w/,
  },
];

// A file with the signs of some weights turned: the same header and length.
async function turned(path: string, names: RegExp): Promise<Buffer> {
  const bytes = await readFile(path);
  for (const [name, { offset, length, shape }] of (await readSafetensors(path)).tensors) {
    const width = length / shape.reduce((count, dim) => count * dim, 1);
    if (names.test(name)) for (let at = offset + width - 1; at < offset + length; at += width) bytes[at]! ^= 0x80;
  }
  return bytes;
}

// With some of the files named by others.
const edit = (library = modelLibrary(), others: Readonly<Record<string, string>> = {}) =>
  watched({
    loras: [{ path: others[lora] ?? lora, strength: 1 }],
    files: { transformer: others[transformer] ?? transformer },
    library,
  });

async function pictureOf(service: EditService, { edit, bytes }: Awaited<ReturnType<typeof watched>>) {
  expect(await service.submit(edit).outcome).toMatchObject({ state: "done" });
  return bytes()!;
}

describe.each(FILES)("$name that is replaced between two edits", ({ path, original, turns }) => {
  const inPlace = (bytes: Buffer) => writeFile(path, bytes);
  const byAnother = async (bytes: Buffer) => {
    await writeFile(`${path}.new`, bytes);
    await rename(`${path}.new`, path);
  };
  test.each([
    ["in place", inPlace],
    ["by another file", byAnother],
  ])("%s is what the second is made with", async (_, replace) => {
    for (const each of FILES) await copyFile(each.original, each.path);
    const library = modelLibrary();
    await withService({ keepAlive: Number.POSITIVE_INFINITY }, async ({ service, events }) => {
      const first = await pictureOf(service, await edit(library));
      await replace(await turned(original, turns));
      const second = await pictureOf(service, await edit(library));
      expect(second).not.toEqual(first);
      expect(second).toEqual(await withService({}, async (fresh) => pictureOf(fresh.service, await edit())));
      // Nobody will ask for the first session again.
      const told = events.flatMap((event) =>
        event.kind === "session" && event.network === "transformer" ? [event.action] : [],
      );
      expect(told).toEqual(["opened", "closed", "opened"]);
    });
  });

  test("is refused by the edit that had looked at it before", async () => {
    for (const each of FILES) await copyFile(each.original, each.path);
    await withService({}, async ({ service }) => {
      const { edit: submitted } = await edit();
      await byAnother(await turned(original, turns));
      const { outcome } = service.submit(submitted);
      expect(await outcome).toMatchObject({
        state: "failed",
        error: { code: "QEDIT_E_CHECKPOINT", message: `Cannot use ${path}: it was changed after this edit began` },
      });
    });
  });
});

// As `ln -sfn` does, by a link that is renamed over the old one.
async function pointAt(link: string, target: string): Promise<void> {
  await symlink(target, `${link}.new`);
  await rename(`${link}.new`, link);
}

describe.each(FILES)("$name behind a link", ({ path, original, turns }) => {
  test.each([
    ["the link of the file", { link: "link.safetensors", named: "link.safetensors", target: "other.safetensors" }],
    ["the link of its folder", { link: "folder", named: "folder/weights.safetensors", target: "other" }],
  ])("%s that is pointed elsewhere decides what the next edit is made with", async (_, { link, named, target }) => {
    await rm(folder.at("linked"), { recursive: true, force: true });
    const at = (name: string) => folder.at(`linked/${name}`);
    const weights = (name: string) => named.replace(link, name);
    for (const name of ["first", target]) await mkdir(dirname(at(weights(name))), { recursive: true });
    for (const each of FILES) await copyFile(each.original, each.path);
    await copyFile(original, at(weights("first")));
    await writeFile(at(weights(target)), await turned(original, turns));
    await pointAt(at(link), "first");
    const asked = (library = modelLibrary()) => edit(library, { [path]: at(named) });
    const library = modelLibrary();
    await withService({ keepAlive: Number.POSITIVE_INFINITY }, async ({ service }) => {
      const first = await pictureOf(service, await asked(library));
      await pointAt(at(link), target);
      const second = await pictureOf(service, await asked(library));
      expect(second).not.toEqual(first);
      expect(second).toEqual(await withService({}, async (fresh) => pictureOf(fresh.service, await asked())));
    });
  });

  test("that is pointed at a copy, the first file being removed, is edited with the copy", async () => {
    const at = (name: string) => folder.at(`copied-${name}`);
    for (const each of FILES) await copyFile(each.original, each.path);
    await copyFile(original, at("first"));
    await copyFile(original, at("copy"));
    await pointAt(at("link"), at("first"));
    const asked = (library: ModelLibrary) => edit(library, { [path]: at("link") });
    const library = modelLibrary();
    await withService({ keepAlive: 0 }, async ({ service }) => {
      const first = await pictureOf(service, await asked(library));
      await pointAt(at("link"), at("copy"));
      await rm(at("first"));
      expect(await pictureOf(service, await asked(library))).toEqual(first);
    });
  });
});

// The same weights in two shards, with one of two indexes.
async function writeShards(folder: string, name: string, source: string): Promise<string> {
  await rewritten(await readSafetensors(source), {
    folder,
    file: `${name}.safetensors`,
    shards: 2,
    keepMetadata: true,
  });
  return join(folder, `${name}.safetensors.index.json`);
}

// Weights that are the first of a folder, and what then is put beside them.
const CHOICES = [
  {
    name: "an index that names other shards",
    async prepare(at: string, changed: string) {
      await rename(await writeShards(at, "one", transformer), join(at, "model.safetensors.index.json"));
      await rename(await writeShards(at, "two", changed), join(at, "prepared.json"));
      return join(at, "model.safetensors.index.json");
    },
    change: (at: string) => rename(join(at, "prepared.json"), join(at, "model.safetensors.index.json")),
  },
  {
    name: "an index that takes a tensor from the other of two shards that hold it",
    async prepare(at: string, changed: string) {
      await copyFile(transformer, join(at, "one.safetensors"));
      await copyFile(changed, join(at, "two.safetensors"));
      const names = [...(await readSafetensors(transformer)).tensors.keys()].sort();
      const indexed = (projection: string) => ({
        // Some of either first, so that both indexes name the shards in one order.
        weight_map: Object.fromEntries(
          names.map((name, i) => [
            name,
            `${name.startsWith("proj_out") ? projection : i % 2 ? "two" : "one"}.safetensors`,
          ]),
        ),
      });
      await writeFile(join(at, "model.safetensors.index.json"), JSON.stringify(indexed("one")));
      await writeFile(join(at, "prepared.json"), JSON.stringify(indexed("two")));
      return join(at, "model.safetensors.index.json");
    },
    change: (at: string) => rename(join(at, "prepared.json"), join(at, "model.safetensors.index.json")),
  },
  {
    name: "a file of a folder that is taken before the other",
    async prepare(at: string, changed: string) {
      await copyFile(transformer, join(at, "some.safetensors"));
      await copyFile(changed, join(at, "prepared"));
      return at;
    },
    change: (at: string) => rename(join(at, "prepared"), join(at, "model.safetensors")),
  },
  {
    name: "the part's own folder in a folder",
    async prepare(at: string, changed: string) {
      await copyFile(transformer, join(at, "some.safetensors"));
      await mkdir(join(at, "prepared"));
      await copyFile(changed, join(at, "prepared/model.safetensors"));
      return at;
    },
    change: (at: string) => rename(join(at, "prepared"), join(at, "transformer")),
  },
];

test.each(CHOICES)("$name decides what the next edit is made with", async ({ name, prepare, change }) => {
  const at = folder.at(name);
  await mkdir(at);
  for (const each of FILES) await copyFile(each.original, each.path);
  const changed = folder.write("changed.safetensors", await turned(transformer, /^proj_out\.w/));
  const others = { [transformer]: await prepare(at, changed) };
  const library = modelLibrary();
  await withService({ keepAlive: Number.POSITIVE_INFINITY }, async ({ service }) => {
    const first = await pictureOf(service, await edit(library, others));
    await change(at);
    const second = await pictureOf(service, await edit(library, others));
    expect(second).not.toEqual(first);
    expect(second).toEqual(
      await withService({}, async (fresh) => pictureOf(fresh.service, await edit(undefined, others))),
    );
  });
});

test("the configuration beside a LoRA that is written anew is what the next edit is made with", async () => {
  await mkdir(folder.at("peft"));
  await copyFile(fixture("tiny/loras/no-alpha.safetensors"), folder.at("peft/adapter_model.safetensors"));
  const configured = (alpha: number) =>
    writeFile(folder.at("peft/adapter_config.json"), JSON.stringify({ peft_type: "LORA", lora_alpha: alpha, r: 2 }));
  const peft = (library = modelLibrary()) => watched({ loras: [{ path: folder.at("peft"), strength: 1 }], library });
  const library = modelLibrary();
  await withService({ keepAlive: Number.POSITIVE_INFINITY }, async ({ service }) => {
    await configured(2);
    const first = await pictureOf(service, await peft(library));
    await configured(12);
    const second = await pictureOf(service, await peft(library));
    expect(second).not.toEqual(first);
    expect(second).toEqual(await withService({}, async (fresh) => pictureOf(fresh.service, await peft())));
  });
});
