// The lowest line on a terminal while something is computed: a spinner, or a bar.
import type { SingleBar } from "cli-progress";
import type { Ora } from "ora";
import type { Output } from "../io.js";
import { printableLine } from "./shown.js";
import type { Style } from "./style.js";

const BAR = "  {what} [{bar}] {share} · {rate} · {left} left";

/** The lowest line: a spinner or a bar. */
export interface MovingLine {
  readonly spin: (text: string) => void;
  readonly bar: (total: number, value: number, payload: object) => void;
  readonly clear: () => void;
  /** Clears it while other lines are written. */
  readonly around: (output: () => void) => void;
  /** Whether it is a bar, which leaves other lines alone; a spinner writes itself anew when others write. */
  readonly isBar: () => boolean;
}

/** A line on stderr, nothing at first. */
export async function movingLine(style: Style, stderr: Output): Promise<MovingLine> {
  const [{ default: ora }, { default: cliProgress }] = await Promise.all([import("ora"), import("cli-progress")]);
  let spinner: Ora | undefined;
  let progress: SingleBar | undefined;
  let again = () => {};
  const clear = () => {
    progress?.stop();
    progress = undefined;
    spinner?.stop();
    spinner = undefined;
  };
  const spin = (text: string) => {
    if (progress) clear();
    const shown = printableLine(text);
    again = () => spin(text);
    if (spinner) spinner.text = shown;
    // discardStdin is off: raw mode would swallow Ctrl-C.
    else
      spinner = ora({
        text: shown,
        stream: stderr as NodeJS.WriteStream,
        discardStdin: false,
        ...(style.color ? {} : { color: false as never }),
      }).start();
  };
  const bar = (total: number, value: number, payload: object) => {
    again = () => bar(total, value, payload);
    if (!progress) {
      clear();
      progress = new cliProgress.SingleBar(
        { format: BAR, stream: stderr as NodeJS.WriteStream, barsize: 24, hideCursor: true, clearOnComplete: true },
        cliProgress.Presets.shades_classic,
      );
      progress.start(total, value, payload);
    }
    progress.update(value, payload);
  };
  return {
    spin,
    bar,
    clear,
    isBar: () => progress !== undefined,
    around(output) {
      const isShown = progress !== undefined || spinner !== undefined;
      clear();
      output();
      if (isShown) again();
    },
  };
}
