// The subcommands in the order of help. A new one needs a module and an entry here.
import type { Command, CommandEntry } from "./command.js";

/** A subcommand of the root. */
interface RootEntry extends CommandEntry {
  /** Heading in the root's help. */
  readonly group: string;
}

const EDIT = "Edit";
const SERVE = "Serve";
const RECIPES = "Recipes";
const STAGES = "Stages";
const MACHINE = "This machine";

/** All subcommands; their modules are loaded when they are called. */
export const COMMANDS: readonly RootEntry[] = [
  {
    name: "run",
    group: EDIT,
    summary: "Edit pictures: all four stages in one go",
    load: async () => (await import("./commands/run.js")).run,
  },
  {
    name: "each",
    group: EDIT,
    summary: "Edit every picture by the same prompt",
    load: async () => (await import("./commands/each.js")).each,
  },
  {
    name: "batch",
    group: EDIT,
    summary: "Edit pictures by a file of jobs, one a line",
    load: async () => (await import("./commands/batch.js")).batch,
  },
  {
    name: "plan",
    group: EDIT,
    summary: "Show what an edit would take: sizes, work, memory, time",
    load: async () => (await import("./commands/plan.js")).plan,
  },
  {
    name: "inspect",
    group: RECIPES,
    summary: "Show what a file is, and how it was made",
    load: async () => (await import("./commands/inspect.js")).inspect,
  },
  {
    name: "rerun",
    group: RECIPES,
    summary: "Make a picture again from its recipe",
    load: async () => (await import("./commands/rerun.js")).rerun,
  },
  {
    name: "diff",
    group: RECIPES,
    summary: "Say why two pictures differ",
    load: async () => (await import("./commands/diff.js")).diff,
  },
  {
    name: "encode-image",
    group: STAGES,
    summary: "Encode pictures with the VAE",
    load: async () => (await import("./commands/encode-image.js")).encodeImageCommand,
  },
  {
    name: "encode-prompt",
    group: STAGES,
    summary: "Encode a prompt, with the pictures it speaks of",
    load: async () => (await import("./commands/encode-prompt.js")).encodePromptCommand,
  },
  {
    name: "sample",
    group: STAGES,
    summary: "Sample a latent under a prompt and reference latents",
    load: async () => (await import("./commands/sample.js")).sampleCommand,
  },
  {
    name: "decode",
    group: STAGES,
    summary: "Decode latents to a picture",
    load: async () => (await import("./commands/decode.js")).decodeCommand,
  },
  {
    name: "serve",
    group: SERVE,
    summary: "Keep models open, and edit for clients of HTTP and Kafka",
    load: async () => (await import("./commands/serve.js")).serveCommand,
  },
  {
    name: "mcp",
    group: SERVE,
    summary: "Edit for agents, over the Model Context Protocol on stdin and stdout",
    load: async () => (await import("./commands/mcp.js")).mcpCommand,
  },
  {
    name: "work",
    group: SERVE,
    summary: "Take edits from Kafka alone",
    load: async () => (await import("./commands/work.js")).workCommand,
  },
  {
    name: "submit",
    group: SERVE,
    summary: "Hand a file of jobs to workers over Kafka",
    load: async () => (await import("./commands/submit.js")).submit,
  },
  {
    name: "kafka",
    group: SERVE,
    summary: "Make Kafka's topics, show schemas and what failed",
    load: async () => (await import("./commands/kafka.js")).kafka,
  },
  {
    name: "export",
    group: SERVE,
    summary: "Write a model for NVIDIA Triton Inference Server",
    load: async () => (await import("./commands/export.js")).exportCommand,
  },
  {
    name: "models",
    group: MACHINE,
    summary: "List, download, find and check model files",
    load: async () => (await import("./commands/models.js")).models,
  },
  {
    name: "setup",
    group: MACHINE,
    summary: "Install the CUDA provider that an NVIDIA GPU needs",
    load: async () => (await import("./commands/setup.js")).setup,
  },
  {
    name: "doctor",
    group: MACHINE,
    summary: "Check what an edit needs of this machine",
    load: async () => (await import("./commands/doctor.js")).doctor,
  },
  {
    name: "cache",
    group: MACHINE,
    summary: "Show or clear the results kept for later runs",
    load: async () => (await import("./commands/cache.js")).cache,
  },
  {
    name: "config",
    group: MACHINE,
    summary: "Show the settings, and where each comes from",
    load: async () => (await import("./commands/config.js")).config,
  },
  {
    name: "completion",
    group: MACHINE,
    summary: "Print the completion script of a shell",
    load: async () => (await import("./commands/completion.js")).completion,
  },
  {
    name: "explain",
    group: MACHINE,
    summary: "Explain an error code",
    load: async () => (await import("./commands/explain.js")).explain,
  },
];

/** Every command by its full name, such as "models pull". Loads all modules. */
export async function allCommands(): Promise<ReadonlyMap<string, Command>> {
  const found = new Map<string, Command>();
  const add = async (path: string, { load }: CommandEntry): Promise<void> => {
    const command = await load();
    found.set(path, command);
    for (const below of command.commands ?? []) await add(`${path} ${below.name}`, below);
  };
  for (const entry of COMMANDS) await add(entry.name, entry);
  return found;
}
