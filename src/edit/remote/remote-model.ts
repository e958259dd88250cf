// One stage, or the whole edit, on servers that are asked in order: the next one when one does not answer, is not ready or has no room, never after a
// refusal.

import { parseV2Address, type V2Address } from "../../kserve/client/v2-address.js";
import {
  type ListedModel,
  openV2Client,
  type ReceivedAnswer,
  type SentRequest,
  V2CallError,
  type V2Client,
} from "../../kserve/client/v2-client.js";
import { ERROR_CODES, type ErrorCode, param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { shown } from "../../std/foreign-text.js";

/** How servers are called. */
export interface RemoteOptions {
  /** Sent as a bearer token. */
  readonly key: string | undefined;
  /** Milliseconds for a request; Infinity: no limit. */
  readonly timeout: number;
}

/** How one request is followed. */
export interface RemoteCall {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A server that is asked. Each throws V2CallError. */
export interface RemoteServer {
  readonly address: string;
  /** What a model of it takes and gives. */
  readonly listed: (model: string) => Promise<ListedModel>;
  /** The parameters of a model's configuration. */
  readonly parameters: (model: string) => Promise<Readonly<Record<string, string>>>;
  /** All requests together may take as long as one stage. */
  readonly infer: (
    request: Omit<SentRequest, "hasProgress">,
    onProgress?: (fields: Readonly<Record<string, unknown>>) => void,
  ) => Promise<RemoteAnswer>;
}

/** An answer, and who gave it. */
export interface RemoteAnswer extends ReceivedAnswer {
  /** The server's address. */
  readonly from: string;
}

/** Milliseconds in which a server must say what the model is: one that is not there may say nothing at all. */
const METADATA_WITHIN = 10_000;
/** The longest delay of a timer, 24 days. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Inputs that a message lists. */
const MOST_LISTED = 20;

/** Codes of a server of qedit with which another machine may have better luck. */
const PASSING: readonly string[] = [
  "QEDIT_E_BUSY",
  "QEDIT_E_TERMINATED",
  "QEDIT_E_MEMORY",
  "QEDIT_E_ENGINE",
  "QEDIT_E_NETWORK",
];
/** Codes that speak of the request or of the server's files: they mean here what they mean there. */
const SAME_HERE: readonly string[] = [
  "QEDIT_E_USAGE",
  "QEDIT_E_IMAGE",
  "QEDIT_E_ARTIFACT",
  "QEDIT_E_MODEL_MISSING",
  "QEDIT_E_CHECKPOINT",
  "QEDIT_E_LORA",
  "QEDIT_E_MEMORY",
  "QEDIT_E_BAD_OUTPUT",
  "QEDIT_E_BUSY",
];

/** A stage or the whole edit, by the name of its model, on servers that run it. */
export class RemoteModel {
  readonly #addresses: readonly V2Address[];
  /** The one that answered last is asked first. */
  #first = 0;

  constructor(
    readonly name: string,
    written: readonly string[],
    private readonly options: RemoteOptions,
  ) {
    this.#addresses = written.map((each) => parseV2Address(each)!);
  }

  /** What `work` gives with the first server with which it can be done. Throws QEDIT_E_NETWORK, what a server refuses, and what `work` throws. */
  async ask<T>(call: RemoteCall, work: (server: RemoteServer) => Promise<T>): Promise<T> {
    const failures: { readonly address: V2Address; readonly error: V2CallError }[] = [];
    for (let tried = 0; tried < this.#addresses.length; tried += 1) {
      const index = (this.#first + tried) % this.#addresses.length;
      const address = this.#addresses[index]!;
      try {
        const client = await openV2Client(address, this.options.key);
        const result = await work(this.#server(client, address, call));
        this.#first = index;
        return result;
      } catch (error) {
        if (!(error instanceof V2CallError)) throw error;
        failures.push({ address, error });
        if (!isPassing(error)) throw this.#refusal(address, error);
        const isLast = failures.length === this.#addresses.length;
        if (!isLast)
          call.emit({
            kind: "warning",
            text: `${address.text} does not run ${this.name}: ${error.message}; the next server is asked`,
          });
      }
    }
    if (failures.length === 1) throw this.#refusal(failures[0]!.address, failures[0]!.error);
    const all = failures.map(({ address, error }) => `${address.text}: ${error.message}`).join("; ");
    throw new QeditError("QEDIT_E_NETWORK", `Cannot run ${this.name} on any of ${failures.length} servers: ${all}`, {
      hint: `Start one of them: qedit serve with a gRPC door, or leave out ${param("remote")}`,
      cause: failures.at(-1)!.error,
    });
  }

  #server(client: V2Client, { text: address }: V2Address, { signal }: RemoteCall): RemoteServer {
    const brief = { signal, timeout: METADATA_WITHIN };
    const { timeout } = this.options;
    let end: number | undefined;
    return {
      address,
      listed: (model) => client.model(model, brief),
      parameters: (model) => client.parameters(model, brief),
      async infer(request, onProgress) {
        end ??= Date.now() + timeout;
        const left = Math.min(Math.max(end - Date.now(), 1), timeout, LONGEST_TIMER);
        const sent = { ...request, hasProgress: onProgress !== undefined };
        return {
          ...(await client.infer(sent, { signal, timeout: left, ...(onProgress && { onProgress }) })),
          from: address,
        };
      },
    };
  }

  #refusal({ text: address, protocol }: V2Address, cause: V2CallError): QeditError {
    const { fault, message: text } = cause;
    const refusal = (code: ErrorCode, message: string, hint: string) => new QeditError(code, message, { hint, cause });
    const elsewhere = `or leave out ${param("remote")}`;
    const code = ERROR_CODES.find((each) => each === cause.code && SAME_HERE.includes(each));
    switch (fault) {
      case "unreachable":
        return refusal(
          "QEDIT_E_NETWORK",
          `Cannot reach the server at ${address}: ${text}`,
          `Check the address and that it runs: qedit serve, ${protocol === "grpc" ? "with a gRPC door there, " : ""}${elsewhere}`,
        );
      case "late":
        return refusal(
          "QEDIT_E_NETWORK",
          `Gave up ${this.name} on the server at ${address}: ${text}`,
          `Give it longer with ${param("remote_timeout", "30m")}, ${elsewhere}`,
        );
      case "unauthorized":
        return refusal(
          "QEDIT_E_NETWORK",
          `The server at ${address} refuses the key: ${text}`,
          "Set the server's key in QEDIT_REMOTE_KEY",
        );
      case "unknown model":
        if (code !== undefined) return refusal(code, `${saysNo(address, this.name)}: ${text}`, REMEDY);
        return refusal(
          "QEDIT_E_NETWORK",
          `The server at ${address} has no model "${this.name}": ${text}`,
          `Name a server of qedit, ${elsewhere}`,
        );
      case "unfit":
        return unfit(address, text, cause);
      case "refused":
        return refusal(code ?? "QEDIT_E_USAGE", `${saysNo(address, this.name)}: ${text}`, REMEDY);
      case "busy":
        return refusal(code ?? "QEDIT_E_BUSY", `${saysNo(address, this.name)}: ${text}`, "Run it again later");
      default:
        return refusal(
          code ?? "QEDIT_E_NETWORK",
          `The server at ${address} failed in ${this.name}: ${text}`,
          `See its log, ${elsewhere}`,
        );
    }
  }
}

const REMEDY = "Its limits, models and LoRAs are its own: see its log";

/** The refusal of an answer that does not fit what was asked. */
export function unfit(address: string, found: string, cause?: unknown): QeditError {
  return new QeditError("QEDIT_E_NETWORK", `Cannot use the answer of the server at ${address}: ${found}`, {
    hint: `Check that it is a qedit server of this version, or leave out ${param("remote")}`,
    cause,
  });
}

/** The refusal of a model of neither form. */
export function foreignModel(name: string, { inputs }: ListedModel, address: string): QeditError {
  const listed = inputs
    .slice(0, MOST_LISTED)
    .map((each) => `${shown(each.name)} ${shown(each.datatype)} [${each.shape.join(", ")}]`);
  return new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot use the model "${name}" of the server at ${address}: it is not of qedit's form, it takes ${listed.join(", ") || "nothing"}`,
    { hint: `Name a server of qedit, or serve what \`qedit export triton\` writes, or leave out ${param("remote")}` },
  );
}

function saysNo(address: string, model: string): string {
  return `The server at ${address} does not run ${model}`;
}

// Another server may do it: this one is not there, not ready, has no room, or broke.
function isPassing({ fault, code }: V2CallError): boolean {
  if (code !== undefined && PASSING.includes(code)) return true;
  return fault === "unreachable" || fault === "unready" || fault === "busy" || fault === "late";
}
