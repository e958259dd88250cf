// Events as people see them, on stderr: a spinner for stages, a bar for steps; on anything but a terminal only lines that matter.
import type { SingleBar } from "cli-progress";
import type { Ora } from "ora";
import type { EditEvent } from "../pipeline/edit.js";

/** Takes events; close ends what is still moving on the screen. */
export interface Renderer {
  readonly emit: (event: EditEvent) => void;
  readonly close: () => void;
}

/** Shows everything, moving if stderr is a terminal; when quiet, warnings only. */
export async function openRenderer({ quiet }: { quiet: boolean }): Promise<Renderer> {
  const write = (line: string) => process.stderr.write(`${line}\n`);
  // A terminal of no width, as some pseudo-terminals are, would have a spinner clear lines for ever.
  const isTerminal = process.stderr.isTTY === true && process.stderr.columns > 0;
  const isMoving = !quiet && isTerminal && process.env["TERM"] !== "dumb" && !process.env["CI"];
  return isMoving ? movingRenderer(write) : plainRenderer({ write, quiet });
}

function plainRenderer({ write, quiet }: { write: (line: string) => void; quiet: boolean }): Renderer {
  return {
    emit(event) {
      if (event.kind === "warning") write(`warning: ${event.text}`);
      if (quiet) return;
      if (event.kind === "plan") event.lines.forEach(write);
      if (event.kind === "note") write(event.text);
    },
    close() {},
  };
}

async function movingRenderer(write: (line: string) => void): Promise<Renderer> {
  const [{ default: ora }, { default: cliProgress }] = await Promise.all([import("ora"), import("cli-progress")]);
  const screen: { spinner: Ora | undefined; bar: SingleBar | undefined } = { spinner: undefined, bar: undefined };
  const stop = () => {
    screen.bar?.stop();
    screen.spinner?.stop();
    screen.bar = undefined;
  };
  // A line of text goes above what moves.
  const line = (text: string) => {
    screen.spinner?.clear();
    write(text);
  };
  const format = "  sample [{bar}] {value}/{total} · {rate} s/step · {left} s left";
  const openBar = (total: number) => {
    screen.spinner?.stop();
    const bar = new cliProgress.SingleBar({ format, stream: process.stderr, barsize: 24, hideCursor: true }, cliProgress.Presets.shades_classic);
    bar.start(total, 0, { rate: "–", left: "–" });
    screen.bar = bar;
  };
  return {
    emit(event) {
      switch (event.kind) {
        case "start":
          // discardStdin stays off: a raw terminal would swallow Ctrl-C.
          screen.spinner = ora({ text: event.stage, stream: process.stderr, discardStdin: false }).start();
          break;
        case "activity":
          if (screen.spinner) screen.spinner.text = event.text;
          break;
        case "step":
          if (event.step === 0) openBar(event.total);
          else screen.bar?.update(event.step, { rate: event.seconds.toFixed(2), left: (event.seconds * (event.total - event.step)).toFixed(0) });
          break;
        case "end":
          screen.bar?.stop();
          screen.bar = undefined;
          screen.spinner?.succeed(`${event.stage} ${event.seconds.toFixed(1)} s`);
          screen.spinner = undefined;
          break;
        case "plan":
          event.lines.forEach(line);
          break;
        case "note":
          line(event.text);
          break;
        case "warning":
          line(`warning: ${event.text}`);
      }
    },
    close: stop,
  };
}
