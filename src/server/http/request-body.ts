// Bodies of requests: JSON and multipart forms, as values and files. Nothing that a client says of lengths is believed.
import type { Context, MiddlewareHandler } from "hono";
import { decimalSize } from "../../std/byte-sizes.js";
import { shown } from "../../std/foreign-text.js";
import { isObject } from "../../std/guards.js";
import { type JsonLimits, jsonExcess } from "../../std/json-limits.js";
import type { ServerLimits } from "../limits.js";
import type { ArrivingBody, ArrivingBytes } from "./arriving-bytes.js";
import type { HttpEnv } from "./http-context.js";
import { HttpError } from "./http-error.js";
import { type FormPart, readMultipart } from "./multipart.js";

/** What no edit has more of. */
const JSON_LIMITS: JsonLimits = { depth: 16, entries: 10_000 };
/** Bytes of a body that is too long that are read and dropped before it is refused. */
const MOST_DISCARDED = 256 * 1024 ** 2;
/** Longest name of a file, in characters, as file systems have it. */
const LONGEST_NAME = 255;

/** Names under which clients send a mask. */
export const MASK_FIELD = /^mask(_image)?$/;

/**
 * The bytes of a body, counted as they come. Throws HttpError 413 for more than the limit, QEDIT_E_BUSY where too much arrives at once, 415 for a
 * compressed one unless that is wanted: its length says nothing of what it holds.
 */
export async function readBytes(
  c: Context<HttpEnv>,
  { body: most }: Pick<ServerLimits, "body">,
  { isCompressed = false }: { readonly isCompressed?: boolean } = {},
): Promise<Buffer> {
  const tooLong = () =>
    new HttpError(413, "payload_too_large", `The request is longer than ${decimalSize(most)}`, {
      // The rest of it is not read.
      headers: { connection: "close" },
    });
  const encoding = c.req.header("content-encoding");
  if (!isCompressed && encoding !== undefined && encoding.toLowerCase() !== "identity")
    throw new HttpError(415, "unsupported_media_type", "Cannot read a compressed body", { hint: "Send it as it is" });
  const body = c.req.raw.body ?? [];
  const parts: Uint8Array[] = [];
  let length = 0;
  let refusal: unknown = Number(c.req.header("content-length")) > most ? tooLong() : undefined;
  for await (const part of arriving(body as AsyncIterable<Uint8Array>)) {
    length += part.length;
    if (length > most) refusal = tooLong();
    refusal ??= refusalOf(part, c.var.arriving);
    if (refusal === undefined) parts.push(part);
    else {
      parts.length = 0;
      c.var.arriving.release();
    }
    // Most clients read no answer while they still write; for how long that is borne has an end.
    if (length > most + MOST_DISCARDED) throw refusal;
  }
  if (refusal !== undefined) throw refusal;
  return Buffer.concat(parts, length);
}

// Why there is no room for a part; undefined: it was counted.
function refusalOf(part: Uint8Array, account: ArrivingBody): unknown {
  try {
    account.add(part);
    return undefined;
  } catch (error) {
    return error;
  }
}

// The parts of a body. Its client may leave before the end of it, which nobody reads the answer of, and is no fault of the server.
async function* arriving(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  try {
    yield* body;
  } catch {
    throw new HttpError(400, "invalid_request", "The request ended before its body did");
  }
}

/** Gives each request an account of its body, which ends with it at the latest. */
export function countArriving(all: ArrivingBytes): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const account = all.account();
    c.set("arriving", account);
    try {
      await next();
    } finally {
      account.release();
    }
  };
}

/** The body as a JSON object, or as the parts of a form. Throws HttpError 400, 413, 415. */
export async function readBody(
  c: Context<HttpEnv>,
  limits: Pick<ServerLimits, "body">,
): Promise<{ readonly json: Readonly<Record<string, unknown>> } | { readonly parts: readonly FormPart[] }> {
  const type = (c.req.header("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (type === "application/json") return { json: await readJson(c, limits) };
  if (type === "multipart/form-data") return { parts: await readForm(c, limits) };
  throw new HttpError(415, "unsupported_media_type", `Cannot read a body of the type "${shown(type)}"`, {
    hint: "Send multipart/form-data or application/json",
  });
}

/** The body as a JSON object. Throws HttpError 400, 413, 415. */
async function readJson(
  c: Context<HttpEnv>,
  limits: Pick<ServerLimits, "body">,
): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await readBytes(c, limits);
  let value: unknown;
  let excess: string | undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    excess = jsonExcess(text, JSON_LIMITS);
    if (excess === undefined) value = JSON.parse(text);
  } catch (error) {
    throw new HttpError(400, "invalid_request", `The body is not JSON: ${shown((error as Error).message)}`);
  }
  if (excess !== undefined) throw new HttpError(400, "invalid_request", `The body ${excess}`);
  if (isObject(value)) return value;
  throw new HttpError(400, "invalid_request", "The body is JSON, but no object");
}

async function readForm(c: Context<HttpEnv>, limits: Pick<ServerLimits, "body">): Promise<readonly FormPart[]> {
  const bytes = await readBytes(c, limits);
  return readMultipart(bytes, c.req.header("content-type")!).map(({ name, value }) => ({
    name,
    value: typeof value === "string" ? value : { ...value, name: fileName(value.name, namelessOf(name)) },
  }));
}

/**
 * A file's name as a client gave it, for messages and the recipe: without folders and control characters. Joiners, which belong to names in Persian
 * and to emoji, stay: the recipe of `qedit run` has them.
 */
export function fileName(given: string, nameless = "image"): string {
  const whole = given.replaceAll("\\", "/").split("/").at(-1)!.slice(0, LONGEST_NAME);
  const name = whole.replace(/[\p{Cc}\p{Cs}]/gu, "");
  return name === "" || /^\.+$/.test(name) ? nameless : name;
}

/** What a file without a name is called, by the part of a form or the field that it came in. */
export function namelessOf(field: string): string {
  return MASK_FIELD.test(field) ? "mask" : "image";
}
