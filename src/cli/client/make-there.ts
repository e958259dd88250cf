// `qedit run` on a server: the settings are resolved here, the pictures made there, and written here.
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import type { Image } from "../../image/image.js";
import { readPictures } from "../../stages/pictures.js";
import type { MakingSettings } from "../commands/run.js";
import { inputPrompt } from "../files/input.js";
import type { Sheet } from "../files/sheet-output.js";
import { STREAM } from "../io.js";
import { seedResults } from "../jobs/seed-results.js";
import type { Terminal } from "../render/terminal.js";
import type { GivenSetting } from "../settings/settings.js";
import { type EditThere, finishEdit, sendEdit } from "./edit-there.js";
import { editManyThere } from "./many-there.js";
import { editOf } from "./planned-there.js";
import { type SentFiles, sentFiles } from "./sent-parameters.js";
import type { ServerClient } from "./server-client.js";

/** A call of `run` with its settings resolved, and nothing opened. */
export interface MakingThere {
  readonly args: readonly string[];
  readonly settings: MakingSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
  /** The pictures to make, one for each seed. */
  readonly wanted: readonly { readonly seed: bigint; readonly path: string }[];
  readonly sheet: Sheet | undefined;
  /** Receives each preview. */
  readonly previewed: ((image: Image) => void) | undefined;
}

interface Work extends MakingThere {
  readonly client: ServerClient;
  readonly terminal: Terminal;
  readonly files: SentFiles;
  readonly inputs: Awaited<ReturnType<EditThere["inputs"]>>;
}

/** Makes the pictures of a call on a server. Throws as makePictures, and QEDIT_E_NETWORK when the server is lost. */
export async function makeThere(call: MakingThere, client: ServerClient, terminal: Terminal): Promise<void> {
  const { args, settings, given, wanted } = call;
  const files = await sentFiles(settings, { address: client.address, given, emit: terminal.emit });
  const prompt = await inputPrompt(settings, terminal.io);
  const [first] = wanted;
  const edit = editOf({ images: args, settings, files, ...first!, result: settings }, terminal.io);
  const inputs = await edit.inputs();
  terminal.emit({ kind: "detail", text: `edited by the server at ${client.address.text}` });
  const work = { ...call, settings: { ...settings, prompt }, client, terminal, files, inputs };
  if (wanted.length === 1) await makeOne(wanted[0]!, work);
  else await makeMany(work);
}

async function makeOne({ seed: asked, path }: MakingThere["wanted"][number], work: Work): Promise<void> {
  const { client, terminal, sheet, previewed } = work;
  const { seed } = drawSeed({ seed: asked }, terminal.emit).settings;
  const edit = seedEdit({ seed, path }, work);
  const options = { client, terminal, signal: terminal.signal, previewed };
  const { info, result, image } = await finishEdit(edit, await sendEdit(edit, options), {
    ...options,
    emit: terminal.emit,
  });
  await sheet?.add(0, [...(await originalCells(work)), [`seed ${seed}`, await image()]]);
  await sheet?.write();
  if (path === STREAM) return;
  const { drift, device, seconds } = result;
  terminal.result({ output: path, kind: "picture", info, drift, device, seconds }, [path]);
}

async function makeMany(work: Work): Promise<void> {
  const { client, terminal, sheet, previewed, wanted } = work;
  const results = seedResults(terminal);
  const infos = new Map<number, object>();
  const jobs = wanted.map(({ seed, path }, place) => {
    const index = place + 1;
    const name = `seed ${seed}`;
    const written: EditThere["written"] = async ({ info, image }) => {
      infos.set(index, info);
      if (sheet) await sheet.add(index, [[name, await image()]]);
    };
    return { ...seedEdit({ seed, path }, work), name, index, written };
  });
  const original = await originalCells(work);
  if (original.length > 0) await sheet?.add(0, original);
  const totals = await editManyThere(jobs, {
    ...{ client, terminal, signal: terminal.signal, previewed },
    ...{ total: jobs.length, maxFailures: undefined, isFirstForAll: true },
    async onEnd({ index, path }, end) {
      results.ended(index, { path, seed: wanted[index - 1]!.seed, info: infos.get(index) }, end);
    },
  });
  results.finish({ sheet: results.hasSome() ? await sheet?.write() : undefined, ...totals });
}

// All seeds have the same pictures, which are read once.
function seedEdit({ seed, path }: MakingThere["wanted"][number], { args, settings, files, inputs, terminal }: Work) {
  const edit = editOf({ images: args, settings, files, seed, path, result: settings }, terminal.io);
  return { ...edit, inputs: async () => inputs };
}

// None for a picture that is made of the prompt alone.
async function originalCells({ inputs: { images } }: Work) {
  const pictures = await readPictures(images.slice(0, 1));
  return pictures.map(({ image }) => ["original", image] as const);
}
