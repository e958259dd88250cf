// `qedit each` on a server: one job for each picture.
import { basename } from "node:path";
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import { readPictures } from "../../stages/pictures.js";
import type { EachSettings } from "../commands/each.js";
import { inputPrompt } from "../files/input.js";
import type { Sheet } from "../files/sheet-output.js";
import type { JobEnd } from "../jobs/many.js";
import type { Terminal } from "../render/terminal.js";
import type { GivenSetting } from "../settings/settings.js";
import { editManyThere, type JobThere } from "./many-there.js";
import { editOf } from "./planned-there.js";
import { sentFiles } from "./sent-parameters.js";
import type { ServerClient } from "./server-client.js";

/** A picture to edit, and where its result goes. */
interface EachThere {
  readonly index: number;
  readonly input: string;
  readonly path: string;
}

/** A call of `each` with its settings resolved. */
interface EachCall {
  readonly settings: EachSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
  readonly total: number;
  readonly maxFailures: number | undefined;
  readonly onEnd: (job: { readonly index: number; readonly path: string }, end: JobEnd) => Promise<void>;
  readonly sheet: Sheet | undefined;
  readonly terminal: Terminal;
}

/** Edits every picture. Throws as editManyThere. */
export async function editEachThere(edits: readonly EachThere[], call: EachCall, client: ServerClient): Promise<void> {
  const { settings, given, sheet, terminal } = call;
  const files = await sentFiles(settings, { address: client.address, given, emit: terminal.emit });
  const prompt = await inputPrompt(settings, terminal.io);
  // Fail once if a reference cannot be read, not once per picture.
  await readPictures(settings.with);
  terminal.emit({ kind: "detail", text: `edited by the server at ${client.address.text}` });
  const jobs = edits.map(({ index, input, path }): JobThere => {
    const note: Terminal["emit"] = (event) =>
      terminal.emit(event.kind === "note" ? { ...event, text: `${input}: ${event.text}` } : event);
    const { seed } = drawSeed(settings, note).settings;
    const images = [input, ...settings.with];
    return {
      ...editOf({ images, settings: { ...settings, prompt }, files, seed, path, result: settings }, terminal.io),
      ...{ name: input, index },
      async written({ image }) {
        if (sheet === undefined) return;
        const [original] = await readPictures([input]);
        await sheet.add(index, [
          [basename(input), original!.image],
          [basename(path), await image()],
        ]);
      },
    };
  });
  await editManyThere(jobs, { ...call, client, signal: terminal.signal, isFirstForAll: false });
}
