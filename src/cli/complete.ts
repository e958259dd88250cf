// Shell completion of commands, options and choices, from the command tree.
// The output follows cobra's protocol, which the scripts of @bomb.sh/tab use too: candidate lines, then a directive.
import { script } from "@bomb.sh/tab";
import type { Command, CommandEntry } from "./command.js";
import { COMMANDS } from "./commands.js";
import { BASH_COMPLETION, ZSH_COMPLETION } from "./completion-scripts.js";
import type { Io } from "./io.js";
import { flagsOf, outputOptions, summaryOf } from "./settings/options.js";

/** Directive after the candidates: complete only these, or file names too. */
const DIRECTIVE = { only: ":4", files: ":0" };

/** A candidate and its description. */
interface Candidate {
  readonly word: string;
  readonly about: string;
}

/** Prints the completions for the words typed so far; the last word is incomplete. */
export async function complete(words: readonly string[], { stdout }: Pick<Io, "stdout">): Promise<void> {
  const { candidates, directive } = await completionsOf(words.slice(0, -1), words.at(-1) ?? "");
  stdout.write([...candidates.map(({ word, about }) => `${word}\t${about}`), directive, ""].join("\n"));
}

/** The completion script of a shell. */
export function completionScript(shell: string): string {
  if (shell === "bash") return BASH_COMPLETION;
  return shell === "zsh" ? ZSH_COMPLETION : scriptOfTab(shell);
}

// The package gives its scripts to console.log alone.
function scriptOfTab(shell: string): string {
  const { log } = console;
  let printed = "";
  console.log = (text: string) => void (printed += `${text}\n`);
  try {
    script(shell, "qedit", "qedit");
  } finally {
    console.log = log;
  }
  return printed;
}

async function completionsOf(
  before: readonly string[],
  typed: string,
): Promise<{ candidates: readonly Candidate[]; directive: string }> {
  const [name, ...rest] = before;
  const entry = COMMANDS.find((each) => each.name === name);
  if (name === undefined || entry === undefined)
    return only(
      COMMANDS.map(({ name: word, summary }) => ({ word, about: summary })),
      typed,
    );
  const command = await innermost(entry, rest);
  const below = command.commands ?? [];
  const isCalled = command.perform !== undefined && (rest.length > 0 || typed.startsWith("-"));
  if (below.length > 0 && !isCalled)
    return only(
      below.map(({ name: word, summary }) => ({ word, about: summary })),
      typed,
    );

  const options = Object.entries({ ...command.options, ...outputOptions }).map(([key, parameter]) => ({
    ...flagsOf(key, parameter),
    summary: summaryOf(parameter),
    choices: parameter.kind.choices,
  }));
  const [assigned, inline] = /^(--[\w-]+)=(.*)$/.exec(typed)?.slice(1) ?? [before.at(-1), undefined];
  const wanting = options.find(({ argument, longs, short }) => argument !== "" && [...longs, short].includes(assigned));
  if (wanting?.choices)
    return only(
      wanting.choices.map((word) => ({ word: inline === undefined ? word : `${assigned}=${word}`, about: "" })),
      typed,
    );
  if (wanting) return { candidates: [], directive: DIRECTIVE.files };
  if (typed.startsWith("-"))
    return only(
      options.flatMap(({ longs, summary }) => longs.map((word) => ({ word, about: summary }))),
      typed,
    );
  return { candidates: [], directive: (command.positionals ?? []).length > 0 ? DIRECTIVE.files : DIRECTIVE.only };
}

// The innermost subcommand that the words name.
async function innermost({ load }: CommandEntry, words: readonly string[]): Promise<Command> {
  const command = await load();
  const below = command.commands?.find((each) => each.name === words[0]);
  return below === undefined ? command : innermost(below, words.slice(1));
}

function only(
  candidates: readonly Candidate[],
  typed: string,
): { candidates: readonly Candidate[]; directive: string } {
  return { candidates: candidates.filter(({ word }) => word.startsWith(typed)), directive: DIRECTIVE.only };
}
