// Parameters that several commands share.
import { defaulted, optional } from "../../edit/parameters/parameter.js";
import { bytes, number, text, toggle } from "../../edit/parameters/parameter-kinds.js";
import { DEVICE_PARAMETERS, MODEL_PARAMETERS } from "../../edit/parameters/table.js";

/** Options of every command that computes. */
export const computeOptions = { ...MODEL_PARAMETERS, ...DEVICE_PARAMETERS };

/** Options of every command that caches results. */
export const cacheOptions = {
  noCache: defaulted(toggle, false, {
    summary: "compute everything, and keep no results for later runs",
    group: "Output",
    scope: "user",
  }),
  cacheLimit: defaulted(bytes(), 4 * 1024 ** 3, {
    summary: "most bytes of kept results, such as 500M or 2G; the longest unused go first",
    group: "Output",
    scope: "user",
    placeholder: "<size>",
    initialText: "4G",
  }),
};

/** Options of every command that makes many edits. */
export const manyOptions = {
  memory: optional(bytes(), {
    summary: "memory that weights may take at once, such as 12G; more networks stay open in more",
    group: "Device",
    placeholder: "<size>",
    initialText: "two thirds of what is free",
  }),
};

/** Options of every command that a server may do. */
export const serverOptions = {
  server: optional(text, {
    summary: "qedit server that makes the edits: http://HOST:PORT, unix:/path/to/socket; none: this process",
    group: "Device",
    scope: "user",
    placeholder: "<url>",
    initialText: "the server on this user's socket, if one answers",
  }),
};

/** Options of every command that takes a file of jobs. */
export const jobsFileOptions = {
  prompt: optional(text, {
    summary: "what to do, in jobs that do not say it",
    group: "Prompt",
    scope: "call",
    short: "p",
    placeholder: "<text>",
  }),
  resume: defaulted(toggle, false, {
    summary: "leave out the jobs that are done; changed ones are done again",
    group: "Output",
    scope: "call",
  }),
};

/** --max-failures. */
export const maxFailures = optional(number({ minimum: 1, whole: true }), {
  summary: "stop after so many failures, the rest is not run",
  group: "Output",
  scope: "call",
  placeholder: "<count>",
});

/** Options of every command that writes a result. */
export const writeOptions = {
  output: optional(text, {
    summary: "where the result goes; - is stdout",
    group: "Output",
    scope: "call",
    short: "o",
    placeholder: "<file>",
  }),
  force: defaulted(toggle, false, {
    summary: "replace files, and allow settings that do not go together",
    group: "Output",
    scope: "call",
    short: "f",
  }),
};

/** Options of every command that takes a prompt; the prompt in the file takes the place of --prompt before a command is called. */
export const promptOptions = {
  promptFile: optional(text, {
    summary: "file with the prompt, UTF-8",
    group: "Prompt",
    scope: "call",
    placeholder: "<file>",
  }),
};
