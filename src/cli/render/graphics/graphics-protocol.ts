// Which protocol for pictures a terminal has, by its environment. Within tmux, screen and zellij none is certain to arrive.
// https://sw.kovidgoyal.net/kitty/graphics-protocol, https://iterm2.com/documentation-images.html

/** Protocols for pictures on terminals. */
export type GraphicsProtocol = "kitty" | "iterm2" | "sixel";

type Environment = Readonly<Record<string, string | undefined>>;

const OF_TERM: ReadonlyMap<string | undefined, GraphicsProtocol> = new Map([
  ["xterm-kitty", "kitty"],
  ["xterm-ghostty", "kitty"],
]);

const OF_PROGRAM: ReadonlyMap<string | undefined, GraphicsProtocol> = new Map([
  ["kitty", "kitty"],
  ["ghostty", "kitty"],
  ["iTerm.app", "iterm2"],
  ["WezTerm", "iterm2"],
  ["mintty", "iterm2"],
]);

/** Variables of terminals that may have been started from kitty or iTerm2, and then have their variables too. */
const OTHERS = ["TERM_PROGRAM", "VTE_VERSION", "KONSOLE_VERSION", "XTERM_VERSION", "WT_SESSION", "ALACRITTY_WINDOW_ID"];

/** Whether the terminal is known to show no pictures, so that it need not be asked. */
export function hasNoPictures(env: Environment): boolean {
  return env["TERM"] === "linux" || env["TERM_PROGRAM"] === "Apple_Terminal" || Boolean(env["ALACRITTY_WINDOW_ID"]);
}

/** Whether what is written passes through a program that keeps a screen of its own. */
export function isMultiplexed(env: Environment): boolean {
  return Boolean(env["TMUX"] || env["STY"] || env["ZELLIJ"]) || /^(screen|tmux)/.test(env["TERM"] ?? "");
}

/** The protocol that the environment names; undefined where the terminal has to be asked. */
export function protocolOf(env: Environment): GraphicsProtocol | undefined {
  const named = OF_TERM.get(env["TERM"]) ?? OF_PROGRAM.get(env["TERM_PROGRAM"]);
  if (named !== undefined || OTHERS.some((name) => env[name])) return named;
  if (env["KITTY_WINDOW_ID"]) return "kitty";
  // Over ssh iTerm2 sends this one along.
  return env["LC_TERMINAL"] === "iTerm2" ? "iterm2" : undefined;
}
