// Asks the terminal what it is (DA1) and how large a cell is (XTWINOPS 16). Its answer comes as if it were typed: raw mode keeps it off the screen, and
// whatever else comes stays on stdin for who reads next.
// https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { Input, Output } from "../../io.js";

/** What the terminal said. */
export interface TerminalAnswer {
  readonly hasSixel: boolean;
  /** Height and width of a cell in pixels; undefined if it did not say. */
  readonly cell: { readonly width: number; readonly height: number } | undefined;
}

/** The terminal, and what ends the wait for it. */
interface Asked {
  readonly stdin: Input;
  readonly stderr: Output;
  readonly signal: AbortSignal;
}

/** Terminals answer within milliseconds, over a slow line within half a second. One that has not after this long never does. */
const LONGEST_WAIT = 1000;
/** Once this process has to stop, milliseconds. */
const LAST_WAIT = 200;

/** What is sent: the attributes come last, since every terminal knows them. */
const QUERY = "\u001b[16t\u001b[c";

/** The attributes, in which 4 is sixel, and the size of a cell. */
const ATTRIBUTES = /\u001b\[\?([\d;]*)c/;
const CELL = /\u001b\[6;(\d{1,4});(\d{1,4})t/;
/** The most of an answer, in characters: anything longer is not one. */
const LONGEST_ANSWER = 4096;

/** What keys send in raw mode instead of a signal. */
const SIGNALS: Readonly<Record<string, NodeJS.Signals>> = {
  "\u0003": "SIGINT",
  "\u001a": "SIGTSTP",
  "\u001c": "SIGQUIT",
};

/** Asks; undefined if there is no answer, or this process may not read from the terminal. */
export async function askTerminal({ stdin, stderr, signal }: Asked): Promise<TerminalAnswer | undefined> {
  const { setRawMode } = stdin;
  if (!stdin.isTTY || setRawMode === undefined || stdin.isRaw === true) return undefined;
  // In the background it would be stopped for changing the terminal's mode.
  if (!(await isForeground()) || signal.aborted) return undefined;
  const raw = (mode: boolean) => setRawMode.call(stdin, mode);
  return new Promise((resolve) => {
    let text = "";
    const end = (answer: TerminalAnswer | undefined) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", hurry);
      stdin.off("data", listen);
      stdin.pause();
      raw(false);
      const typed = text.replace(ATTRIBUTES, "").replace(CELL, "");
      text = "";
      if (typed !== "") stdin.unshift(Buffer.from(typed, "latin1"));
      // Waiting for keys keeps no process alive.
      stdin.unref?.();
      resolve(answer);
    };
    const listen = (part: Buffer) => {
      text += part.toString("latin1");
      for (const [key, name] of Object.entries(SIGNALS)) {
        if (!text.includes(key)) continue;
        text = text.replaceAll(key, "");
        // A stopped process would leave the terminal in raw mode.
        if (name === "SIGTSTP") end(undefined);
        process.kill(process.pid, name);
      }
      if (ATTRIBUTES.test(text)) end(answerOf(text));
      else if (text.length > LONGEST_ANSWER) end(undefined);
    };
    let timer = setTimeout(end, LONGEST_WAIT, undefined);
    // An answer under way would be left for the shell.
    const hurry = () => {
      clearTimeout(timer);
      timer = setTimeout(end, LAST_WAIT, undefined);
    };
    signal.addEventListener("abort", hurry, { once: true });
    raw(true);
    stdin.on("data", listen);
    stdin.resume();
    stderr.write(QUERY);
  });
}

function answerOf(text: string): TerminalAnswer {
  const attributes = ATTRIBUTES.exec(text)![1]!.split(";");
  const [, height = 0, width = 0] = (CELL.exec(text) ?? []).map(Number);
  return { hasSixel: attributes.slice(1).includes("4"), cell: height > 0 && width > 0 ? { width, height } : undefined };
}

// Whether the terminal's keys go to this process: its group is the terminal's foreground group.
async function isForeground(): Promise<boolean> {
  if (process.platform === "win32") return true;
  if (process.platform === "linux") {
    const stat = await readFile("/proc/self/stat", "latin1").catch(() => "");
    // After the name in brackets: state, parent, group, session, terminal, foreground group.
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return group !== undefined && group === foreground;
  }
  return new Promise((resolve) =>
    execFile("ps", ["-o", "stat=", "-p", String(process.pid)], (error, state) =>
      resolve(!error && state.includes("+")),
    ),
  );
}
