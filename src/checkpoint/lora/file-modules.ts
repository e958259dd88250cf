// What an adapter file holds, module by module, under the names that it gives them.
import type { Checkpoint, StoredTensor } from "../checkpoint.js";
import { type PartName, readAdapterKey } from "./lora-layouts.js";
import {
  dividingRank,
  type FoundPart,
  type FoundParts,
  kindName,
  kindsOf,
  type ModuleAdapter,
} from "./module-adapter.js";

/** The parts that a file holds under one name of a module. */
export interface FileModule {
  readonly parts: FoundParts;
  readonly layouts: ReadonlySet<string>;
  /** PEFT's names of adapters. */
  readonly adapterNames: ReadonlySet<string>;
  /** Keys of a part that is there in another spelling already. */
  readonly repeated: readonly string[];
}

/** What a file holds by the names that it gives to modules. */
export function modulesOf({ tensors }: Pick<Checkpoint, "tensors">): ReadonlyMap<string, FileModule> {
  const modules = new Map<string, ReturnType<typeof emptyModule>>();
  for (const [key, stored] of tensors) {
    const read = readAdapterKey(key);
    if (read === undefined) continue;
    const { parts, layouts, adapterNames, repeated } = modules.get(read.module) ?? emptyModule();
    const part = partOf(read.part, stored);
    if (read.adapterName !== undefined) adapterNames.add(read.adapterName);
    if (read.layout !== undefined) layouts.add(read.layout);
    if (parts.has(part)) repeated.push(key);
    else parts.set(part, { key, stored });
    modules.set(read.module, { parts, layouts, adapterNames, repeated });
  }
  return modules;
}

// LyCORIS calls the blocks of OFT and the stages of blocks of BOFT alike.
function partOf(part: PartName, { shape }: StoredTensor): PartName {
  return part === "oft_blocks" && shape.length === 4 ? "boft_blocks" : part;
}

function emptyModule() {
  return {
    parts: new Map<PartName, FoundPart>(),
    layouts: new Set<string>(),
    adapterNames: new Set<string>(),
    repeated: [] as string[],
  };
}

/** What an adapter file holds by its header alone, whatever model it is for. */
export interface AdapterOverview {
  /** Names of kinds, such as `LoRA` and `DoRA`. */
  readonly kinds: readonly string[];
  readonly ranks: readonly number[];
  /** Spellings of its keys; none when the file is no adapter that qedit knows. */
  readonly layouts: readonly string[];
}

/** Reads what an adapter file holds. Parts that do not belong together count too. */
export function adapterOverview(tensors: Checkpoint["tensors"]): AdapterOverview {
  const modules = [...modulesOf({ tensors }).values()];
  const found = modules.map(({ parts }) => parts);
  return {
    kinds: [
      ...new Set(
        found.flatMap((parts) => kindsOf(parts).map((kind) => kindName({ kind, parts: adapterParts(parts) }))),
      ),
    ],
    ranks: distinct(found.flatMap((parts) => dividingRank(parts) ?? [])),
    layouts: [...new Set(modules.flatMap(({ layouts }) => [...layouts]))],
  };
}

/** The stored tensors of found parts, without alpha. */
export function adapterParts(parts: FoundParts): ModuleAdapter["parts"] {
  return Object.fromEntries(
    [...parts].flatMap(([name, { stored }]) => (name === "alpha" ? [] : [[name, stored] as const])),
  );
}

/** The different numbers, ascending. */
export function distinct(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}
