// The error table: for each code its meaning, causes, remedy, and status in every interface (exit, HTTP, gRPC, Kafka). `qedit explain` and the
// documentation are generated from it. A new error needs a code in std/errors.ts and an entry here.

import type { ErrorCode } from "../std/errors.js";
import { param } from "../std/errors.js";

/** Exit statuses by kind of failure. 130 and 143 are the shells' 128 + SIGINT and 128 + SIGTERM. */
export const EXIT = {
  ok: 0,
  runtime: 1,
  usage: 2,
  model: 3,
  memory: 4,
  output: 5,
  partial: 6,
  interrupted: 130,
  terminated: 143,
} as const;

/** What a Kafka worker does with the message: send it to the dead-letter topic, retry it, commit its offset, or leave it uncommitted. */
type KafkaAction = "dead-letter" | "retry" | "commit" | "leave";

/** The entry of a code. */
export interface ErrorEntry {
  /** Exit status of the command line. */
  readonly exit: number;
  readonly http: number;
  /** `code` of an error in HTTP's JSON, in the manner of OpenAI's. */
  readonly api: string;
  /** Whether a client should send the same request again. */
  readonly isRetryable?: boolean;
  /** Name of the gRPC status, https://grpc.io/docs/guides/status-codes. */
  readonly grpc: string;
  readonly kafka: KafkaAction;
  /** One sentence. */
  readonly meaning: string;
  readonly causes: readonly string[];
  /** What to type or change. */
  readonly remedy: string;
}

/** The table; every code has an entry. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorEntry>> = {
  QEDIT_E_USAGE: {
    exit: EXIT.usage,
    http: 400,
    api: "invalid_request",
    grpc: "INVALID_ARGUMENT",
    kafka: "dead-letter",
    meaning: "The command cannot be understood, or its settings do not go together.",
    causes: [
      "An option is mistyped or its value is out of range",
      "Two options contradict each other, or one has no effect beside the others",
      "A settings file or a QEDIT_ variable holds a value that cannot be used",
    ],
    remedy:
      "Follow the hint; `qedit COMMAND --help` lists the options, `qedit config --explain` shows where each setting comes from.",
  },
  QEDIT_E_IMAGE: {
    exit: EXIT.usage,
    http: 400,
    api: "invalid_image",
    grpc: "INVALID_ARGUMENT",
    kafka: "dead-letter",
    meaning: "A picture cannot be read.",
    causes: [
      "The path is wrong",
      "The file is damaged, empty or cut off",
      "The format is not JPEG, PNG, WebP, GIF, TIFF or AVIF",
      "It is too large, or longer than the model can take",
    ],
    remedy: "Check the path; convert the picture to PNG or JPEG.",
  },
  QEDIT_E_ARTIFACT: {
    exit: EXIT.usage,
    http: 400,
    api: "invalid_tensor",
    grpc: "INVALID_ARGUMENT",
    kafka: "dead-letter",
    meaning: "A tensor file between stages cannot be used.",
    causes: [
      "It is of another kind than the stage takes",
      "It is damaged, or of another version of qedit",
      "It was made with other model files: its widths do not fit",
    ],
    remedy: "Make it again with the command in the hint; `qedit inspect FILE` shows what it holds.",
  },
  QEDIT_E_EXISTS: {
    exit: EXIT.usage,
    http: 409,
    api: "conflict",
    grpc: "ALREADY_EXISTS",
    kafka: "dead-letter",
    meaning: "The result's file is there already, and qedit never replaces a file unasked.",
    causes: ["The same command ran before", "The name was made from the input's and is taken"],
    remedy: `Name another file with ${param("output")}, or replace it with ${param("force")}.`,
  },
  QEDIT_E_MODEL_MISSING: {
    exit: EXIT.model,
    http: 404,
    api: "model_not_found",
    grpc: "NOT_FOUND",
    kafka: "dead-letter",
    meaning: "A model file cannot be found.",
    causes: ["It was never downloaded", "It lies in a folder that is not searched", "Its name is mistyped"],
    remedy:
      "`qedit models scan` shows what is there; `qedit models pull NAME` downloads; QEDIT_MODELS names a folder, such as ComfyUI's models.",
  },
  QEDIT_E_CHECKPOINT: {
    exit: EXIT.model,
    http: 500,
    api: "invalid_model",
    grpc: "FAILED_PRECONDITION",
    kafka: "dead-letter",
    meaning: "A model file is incomplete, of another model, or in a form that qedit does not compute.",
    causes: [
      "The download was cut",
      "The file is of another architecture, or lacks the vision tower",
      "Files of different models were mixed",
      "Its weights are packed (MXFP8, NVFP4, SVDQuant, IQ types of GGUF and others), or nothing reads some of its tensors",
      "It is a pickle (.ckpt, .pt), which qedit never opens",
    ],
    remedy: "`qedit inspect FILE` names the file; `qedit models verify` compares hashes.",
  },
  QEDIT_E_LORA: {
    exit: EXIT.model,
    http: 400,
    api: "invalid_lora",
    grpc: "INVALID_ARGUMENT",
    kafka: "dead-letter",
    meaning: "A LoRA does not fit the transformer.",
    causes: [
      "It was made for another model",
      "Its key layout is unknown",
      "It is of a kind that qedit does not compute: GLoRA, VeRA, IA3, scaled OFT and others",
      `With ${param("strict_lora")}: some of its keys fit nothing`,
    ],
    remedy: "`qedit inspect FILE` shows its layout and rank; use a LoRA made for this model.",
  },
  QEDIT_E_DEVICE: {
    exit: EXIT.runtime,
    http: 503,
    api: "device_unavailable",
    isRetryable: true,
    grpc: "UNAVAILABLE",
    kafka: "retry",
    meaning: "The device that was asked for does not work.",
    causes: [
      "There is no NVIDIA GPU or driver",
      "The CUDA provider or one of its libraries is not installed",
      "The GPU's number is wrong",
    ],
    remedy: `\`qedit doctor --device cuda\` says what is missing, \`qedit setup\` installs the provider; ${param("device", "cpu")} works everywhere.`,
  },
  QEDIT_E_ENGINE: {
    exit: EXIT.runtime,
    http: 500,
    api: "engine_failed",
    isRetryable: true,
    grpc: "INTERNAL",
    kafka: "retry",
    meaning: "ONNX Runtime failed while opening or running a network.",
    causes: ["A model file changed while it was read", "A bug in qedit or in ONNX Runtime"],
    remedy: `Run again with ${param("debug")}, and report what it prints if it stays.`,
  },
  QEDIT_E_IO: {
    exit: EXIT.runtime,
    http: 500,
    api: "io_error",
    grpc: "INTERNAL",
    kafka: "retry",
    meaning: "A file could not be read or written.",
    causes: ["The disk is full or read-only", "Permission is missing", "The path is a folder, or leads through a file"],
    remedy: "Free space, or choose another place with -o. Nothing half-written was left behind.",
  },
  QEDIT_E_NETWORK: {
    exit: EXIT.runtime,
    http: 502,
    api: "network_error",
    grpc: "UNAVAILABLE",
    kafka: "retry",
    meaning: "A download failed, or a server cannot be used.",
    causes: [
      "There is no connection, or a proxy is in the way",
      "No qedit server listens under the address, or it ended meanwhile",
      "The server refused: a token is missing or may not read the repository",
      "The file's hash is not the published one",
    ],
    remedy:
      "Run the command again: downloads go on where they stopped. HF_TOKEN, HF_ENDPOINT and HTTPS_PROXY are respected.",
  },
  QEDIT_E_MEMORY: {
    exit: EXIT.memory,
    http: 500,
    api: "out_of_memory",
    grpc: "RESOURCE_EXHAUSTED",
    kafka: "retry",
    meaning: "Memory ran out, on the GPU or in the machine.",
    causes: [
      "The picture is larger than the device can take",
      "Other programs hold memory",
      "The model is larger than the device",
    ],
    remedy: `Use ${param("vram")} with less than the card has, ${param("megapixels", 0.5)} or ${param("tile", 256)}, free memory, or \`qedit plan\` to see what each stage needs.`,
  },
  QEDIT_E_BAD_OUTPUT: {
    exit: EXIT.output,
    http: 500,
    api: "bad_output",
    grpc: "DATA_LOSS",
    kafka: "dead-letter",
    meaning: "The result is broken: NaN, infinity, or one flat colour.",
    causes: [
      "Model files that do not belong together",
      "A damaged model file",
      "A compute type with too small a range",
    ],
    remedy: `The samples were kept: decode them again with another VAE or ${param("vae_dtype", "float32")}. \`qedit models verify\` checks the files.`,
  },
  QEDIT_E_PARTIAL: {
    exit: EXIT.partial,
    http: 500,
    api: "partial_failure",
    grpc: "ABORTED",
    kafka: "dead-letter",
    meaning: "Some jobs of a batch failed; the others are done.",
    causes: ["See the result line of each failed job"],
    remedy: "Correct them and run the same batch again; `qedit batch --last-failed` runs those alone.",
  },
  QEDIT_E_BUSY: {
    exit: EXIT.runtime,
    http: 429,
    api: "queue_full",
    isRetryable: true,
    grpc: "RESOURCE_EXHAUSTED",
    kafka: "leave",
    meaning: "The queue is full: no more work is taken now.",
    causes: ["More edits were submitted than are done in the time"],
    remedy: "Submit it again later, or raise the length of the queue.",
  },
  QEDIT_E_INTERRUPTED: {
    exit: EXIT.interrupted,
    http: 400,
    api: "cancelled",
    grpc: "CANCELLED",
    kafka: "commit",
    meaning: "Ctrl-C stopped the work.",
    causes: ["You did"],
    remedy: "Run it again; `qedit batch --resume` goes on with a batch.",
  },
  QEDIT_E_TERMINATED: {
    exit: EXIT.terminated,
    http: 503,
    api: "draining",
    isRetryable: true,
    grpc: "UNAVAILABLE",
    kafka: "leave",
    meaning: "SIGTERM stopped the work.",
    causes: ["A supervisor, a shutdown or `kill`"],
    remedy: "Run it again; `qedit batch --resume` goes on with a batch.",
  },
  QEDIT_E_INTERNAL: {
    exit: EXIT.runtime,
    http: 500,
    api: "internal",
    isRetryable: true,
    grpc: "INTERNAL",
    kafka: "retry",
    meaning: "Something happened that must not happen: a bug in qedit.",
    causes: ["A case that the code does not handle"],
    remedy: `Run again with ${param("debug")}, and report what it prints.`,
  },
};
