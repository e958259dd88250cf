// The setting of stages that run elsewhere: the servers of each, as KServe V2 addresses.
import * as v from "valibot";
import { parseV2Address } from "../../kserve/client/v2-address.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { isObject } from "../../std/guards.js";
import type { Kind } from "../parameters/parameter-kinds.js";

/** The whole edit as one model. */
export const WHOLE = "qedit";

/** What may run elsewhere: a stage, or the whole edit. */
export type RemoteTarget = StageName | typeof WHOLE;

/** Addresses of servers by what they run; the first that answers is taken. */
export type RemoteServers = Readonly<Partial<Record<RemoteTarget, readonly string[]>>>;

const TARGETS: readonly RemoteTarget[] = [...STAGES, WHOLE];

/** The servers, written as STAGE=ADDRESS[,ADDRESS…], several of them separated by commas, or as an object of addresses by stage. */
export const remoteServers: Kind<RemoteServers> = {
  schema: v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const read = readServers(dataset.value);
      if (read !== undefined) return read;
      addIssue({ message: "no servers of stages" });
      return NEVER;
    }),
  ) as unknown as v.GenericSchema<unknown, RemoteServers>,
  wanted: `STAGE=ADDRESS, such as sample=grpc://gpu-host:8001, with a stage of ${STAGES.join(", ")} or ${WHOLE} alone, and grpc://HOST:PORT, grpcs://, http:// or https://,`,
  isList: true,
};

/** The stages that run elsewhere. */
export function stagesElsewhere(servers: RemoteServers): ReadonlySet<StageName> {
  return new Set(STAGES.filter((stage) => servers[stage] !== undefined || servers[WHOLE] !== undefined));
}

/** The servers of a stage for messages: `grpc://a:8001, grpc://b:8001`. */
export function serversText(servers: RemoteServers, stage: StageName): string {
  return (servers[stage] ?? servers[WHOLE] ?? []).join(", ");
}

function readServers(value: unknown): RemoteServers | undefined {
  const pairs = isObject(value) ? pairsOfObject(value) : pairsOfTexts([value].flat());
  if (pairs === undefined) return undefined;
  const servers: Partial<Record<RemoteTarget, string[]>> = {};
  for (const [name, written] of pairs) {
    const target = TARGETS.find((each) => each === name.replaceAll("_", "-"));
    const address = parseV2Address(written);
    if (target === undefined || address === undefined) return undefined;
    servers[target] = [...(servers[target] ?? []).filter((each) => each !== address.text), address.text];
  }
  // One call makes the whole edit: a stage of its own would have no effect.
  return servers[WHOLE] !== undefined && Object.keys(servers).length > 1 ? undefined : servers;
}

type Pair = readonly [name: string, address: string];

function pairsOfObject(value: Readonly<Record<string, unknown>>): readonly Pair[] | undefined {
  const pairs: Pair[] = [];
  for (const [name, written] of Object.entries(value)) {
    const addresses = [written].flat().flatMap((each) => (typeof each === "string" ? each.split(",") : [undefined]));
    if (addresses.length === 0 || addresses.includes(undefined)) return undefined;
    pairs.push(...addresses.map((address) => [name, address!] as const));
  }
  return pairs;
}

// An address without a stage before it belongs to the stage before.
function pairsOfTexts(texts: readonly unknown[]): readonly Pair[] | undefined {
  if (!texts.every((each) => typeof each === "string")) return undefined;
  const pairs: Pair[] = [];
  let current: string | undefined;
  for (const part of texts.join(",").split(",")) {
    const [, name, address = part] = /^\s*([a-z_-]+)=(.*)$/i.exec(part) ?? [];
    current = name ?? current;
    if (current === undefined) return undefined;
    pairs.push([current, address]);
  }
  return pairs;
}
