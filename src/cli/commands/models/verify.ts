// qedit models verify: checks header, network, length and hash of model files.
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { type Finder, publishedFinder } from "../../../catalog/local/find.js";
import { listRepacked } from "../../../catalog/local/repacked-files.js";
import { filesAt, filesOf, type Verified, type VerifyItem, verifyFile } from "../../../catalog/local/verify-files.js";
import { readCatalog } from "../../../catalog/published/models.js";
import { EXIT } from "../../../edit/error-table.js";
import { defineCommand } from "../../command.js";
import type { Terminal } from "../../render/terminal.js";
import { identityText, modelsDir } from "./model-options.js";

/** `qedit models verify`. */
export const verify = defineCommand({
  examples: [
    "qedit models verify",
    "qedit models verify qwen-image-edit-2509",
    "qedit models verify ./my-finetune.safetensors",
  ],
  positionals: [
    ["[model-or-file...]", "names of models, or paths; without them everything of the catalogue that is on disk"],
  ],
  options: { modelsDir },
  async perform({ args, settings }, terminal) {
    const find = publishedFinder({ modelsDirs: settings.modelsDir });
    const items = unique(
      (args.length > 0 ? await Promise.all(args.map((each) => named(each, find))) : [await everything(find)]).flat(),
    );
    const results: Verified[] = [];
    for (const item of items) results.push(await check(item, terminal));
    results.push(...(await changedRepacked(results)));
    if (items.length === 0)
      terminal.emit({ kind: "note", text: "no published model file is on disk: qedit models pull" });
    terminal.result({ files: results }, results.map(line));
    return results.some(({ problem }) => problem !== undefined) ? EXIT.model : EXIT.ok;
  },
});

// A name is a path if it has a slash or an extension, or if such a file exists.
async function named(name: string, find: Finder): Promise<VerifyItem[]> {
  const isPath =
    /[/\\]|\.\w+$/.test(name) ||
    (await stat(name).then(
      () => true,
      () => false,
    ));
  return isPath ? filesAt(name) : filesOf(name, find);
}

async function everything(find: Finder): Promise<VerifyItem[]> {
  const { models } = await readCatalog();
  const items = await Promise.all([...models.keys()].map((name) => filesOf(name, find)));
  return items.flat().filter(({ path }) => path !== undefined);
}

function unique(items: readonly VerifyItem[]): VerifyItem[] {
  const name = ({ path, file }: VerifyItem) => path ?? file?.file;
  return items.filter((item, index) => items.findIndex((other) => name(other) === name(item)) === index);
}

async function check(item: VerifyItem, { signal, emit }: Terminal): Promise<Verified> {
  const start = performance.now();
  const name = item.file?.file ?? item.path ?? "";
  const onProgress = (bytes: number, total: number) => {
    emit({
      kind: "transfer",
      name,
      bytes,
      total,
      bytesPerSecond: (bytes * 1000) / Math.max(1, performance.now() - start),
    });
  };
  emit({ kind: "start", stage: name });
  const result = await verifyFile(item, { signal, onProgress });
  emit({ kind: "end", stage: name, seconds: (performance.now() - start) / 1000 });
  return result;
}

// Repacked weights of the files that are not as they were written.
async function changedRepacked(results: readonly Verified[]): Promise<Verified[]> {
  const hashes = new Set(results.map(({ sha256 }) => sha256));
  return (await listRepacked()).flatMap(({ path, sources = [], isChanged }) => {
    if (!isChanged || !sources.some(({ sha256 }) => hashes.has(sha256))) return [];
    const of = sources.map(({ file }) => file).join(", ");
    const problem = `it was changed since it was made of ${of}; the next edit makes it again`;
    return { file: basename(path), path, compared: "nothing", problem };
  });
}

function line({ file, path, identity, sha256, compared, problem }: Verified): string {
  if (problem !== undefined) return `BAD  ${path ?? file}: ${problem}`;
  const against = {
    published: "hash as published",
    download: "hash as downloaded, no published hash known",
    nothing: "no published hash known",
  }[compared];
  return `ok   ${path}: ${against}${sha256 === undefined ? "" : ` ${sha256.slice(0, 12)}…`}${identity ? `; ${identityText(identity)}` : ""}`;
}
