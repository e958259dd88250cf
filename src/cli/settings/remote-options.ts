// Options of every command whose stages may run elsewhere, and what of a call would have no effect with them.
import { defaulted, type SettingsOf } from "../../edit/parameters/parameter.js";
import { duration } from "../../edit/parameters/parameter-kinds.js";
import { remoteServers, stagesElsewhere, WHOLE } from "../../edit/remote/remote-servers.js";
import { STAGES, type StageName } from "../../stages/stage.js";
import { QeditError } from "../../std/errors.js";
import type { GivenSetting } from "./settings.js";

const MINUTE = 60_000;

/** --remote, --remote-timeout. Pictures are sent to these servers: a project's file may not name them. */
export const remoteOptions = {
  remote: defaulted(
    remoteServers,
    {},
    {
      summary: `servers that run stages, KServe V2 such as another qedit: sample=grpc://HOST:8001; several of one stage are tried in order; ${WHOLE}=… for all of the edit; repeatable`,
      group: "Device",
      scope: "user",
      placeholder: "<stage=address>",
      initialText: "every stage runs here",
    },
  ),
  remoteTimeout: defaulted(duration, 10 * MINUTE, {
    summary: "how long such a server may take for one stage: 90s, 10m, forever",
    group: "Device",
    scope: "user",
    placeholder: "<duration>",
    initialText: "10m",
  }),
};

/** Their values. */
export type RemoteSettings = SettingsOf<typeof remoteOptions>;

/** Options of this machine, which have no effect where nothing is computed here. */
const OF_DEVICE = ["device", "threads", "vram", "memory"];

type Given = ReadonlyMap<string, GivenSetting>;

/** Throws QEDIT_E_USAGE for options of a call that have no effect with its servers. */
export function refuseUselessRemote({ remote }: Pick<RemoteSettings, "remote">, given: Given): void {
  refuseUseless(stagesElsewhere(remote), { of: STAGES, given });
  const keep = given.get("keep");
  if (keep && remote[WHOLE])
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${keep.name}: another machine makes the whole edit`, {
      hint: `Name the stages instead: --remote ${STAGES.map((stage) => `${stage}=ADDRESS`).join(",")}`,
    });
}

/** The servers that a command of one stage has to do with. Throws QEDIT_E_USAGE for a call that names only servers of others, and as refuseUselessRemote. */
export function serversOfStage(
  stage: StageName,
  { remote }: Pick<RemoteSettings, "remote">,
  given: Given,
): Pick<RemoteSettings, "remote"> {
  const named = given.get("remote");
  const own = remote[stage];
  if (own === undefined && named?.isOfCall)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${named.name}: it names no server of ${stage}`, {
      hint: `Name one: --remote ${stage}=grpc://HOST:8001, or leave it out`,
    });
  refuseUseless(new Set(own ? [stage] : []), { of: [stage], given });
  return { remote: own ? { [stage]: own } : {} };
}

/** Throws QEDIT_E_USAGE for a call's --remote-timeout where no stage runs elsewhere. */
export function refuseUselessTimeout(elsewhere: ReadonlySet<StageName>, given: Given): void {
  const timeout = given.get("remoteTimeout");
  if (elsewhere.size === 0 && timeout?.isOfCall)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${timeout.name}: no stage runs elsewhere`, {
      hint: "Name a server: --remote sample=grpc://HOST:8001",
    });
}

// `of`: the stages of the command.
function refuseUseless(
  elsewhere: ReadonlySet<StageName>,
  { of, given }: { readonly of: readonly StageName[]; readonly given: Given },
): void {
  refuseUselessTimeout(elsewhere, given);
  const useless = OF_DEVICE.map((name) => given.get(name)).find((each) => each?.isOfCall);
  if (useless && of.every((stage) => elsewhere.has(stage)))
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${useless.name}: nothing is computed here`, {
      hint: "Leave it out, or leave a stage out of --remote",
    });
}
