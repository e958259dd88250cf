// A registry of schemas with Confluent's REST interface: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Subjects are
// named after topics, `TOPIC-value`, as its serializers do by default.
import { param, QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";
import { type AvroSchema, avroSchemas, SCHEMA_NAMES, type SchemaName } from "./avro-schemas.js";

/** A schema under its subject. */
export interface Registered {
  readonly name: SchemaName;
  readonly subject: string;
  readonly id: number;
}

const ANSWER_WITHIN = 10_000;
/** Bytes of an answer; the largest schema of qedit has some tens of thousands. */
const MOST_BYTES = 4 * 1024 ** 2;
const MEDIA_TYPE = "application/vnd.schemaregistry.v1+json";
/** Failures of a request that say that what is asked for is not there, https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors. */
const ABSENT = 404;
const CONFLICT = 409;

/** Schemas that stand in a registry: those of messages. */
export const REGISTERED_NAMES: readonly SchemaName[] = SCHEMA_NAMES.filter((name) => name !== "error");

/** Name of the subject of a schema, whose topic is named after it. */
export function subjectOf(name: SchemaName): string {
  return `qedit.${name}.v1-value`;
}

/** Registers the schemas of all topics. Throws as SchemaRegistry. */
export async function registerSchemas(url: string): Promise<readonly Registered[]> {
  const registry = new SchemaRegistry(url);
  const schemas = avroSchemas();
  const registered: Registered[] = [];
  for (const name of REGISTERED_NAMES) registered.push(await registry.register(name, schemas[name]));
  return registered;
}

/** A registry. Every method throws QEDIT_E_NETWORK when it does not answer, or not as a registry. */
export class SchemaRegistry {
  readonly #base: URL;
  readonly #authorization: string | undefined;
  readonly #schemas = new Map<number, Promise<AvroSchema>>();

  /** Opens nothing. Throws QEDIT_E_USAGE for what is no http or https URL. */
  constructor(written: string) {
    const url = URL.parse(written);
    const { username, password } = url ?? { username: "", password: "" };
    const pair = decoded(`${username}:${password}`);
    if (url === null || pair === undefined || !/^https?:$/.test(url.protocol))
      throw new QeditError("QEDIT_E_USAGE", `Cannot use this for ${param("schemaRegistry")}: a URL is wanted`, {
        hint: `Write, for example, ${param("schemaRegistry", "http://registry:8081")}`,
        parameter: "schemaRegistry",
      });
    // Never shown, and not taken by fetch inside a URL.
    if (pair !== ":") this.#authorization = `Basic ${Buffer.from(pair).toString("base64")}`;
    [url.username, url.password, url.search, url.hash] = ["", "", "", ""];
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    this.#base = url;
  }

  /** The URL without a password. */
  get url(): string {
    return this.#base.href;
  }

  /** The id of a schema that is registered. Throws QEDIT_E_USAGE if it is not. */
  async idOf(name: SchemaName, schema: AvroSchema): Promise<number> {
    const subject = subjectOf(name);
    const { status, body } = await this.#call("POST", `subjects/${subject}`, { schema: JSON.stringify(schema) });
    if (status === ABSENT)
      throw new QeditError("QEDIT_E_USAGE", `Cannot write ${name}: its schema is not registered at ${this.url}`, {
        hint: "`qedit kafka schemas register` with the same settings registers it",
      });
    return this.#idIn(body, subject);
  }

  /** Registers a schema under its subject, which from then on takes only what reads all that was written before. Throws QEDIT_E_USAGE if it does not. */
  async register(name: SchemaName, schema: AvroSchema): Promise<Registered> {
    const subject = subjectOf(name);
    const { status, body } = await this.#call("POST", `subjects/${subject}/versions`, {
      schema: JSON.stringify(schema),
    });
    if (status === CONFLICT)
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot register ${subject} at ${this.url}: it does not read what is there already: ${textOf(body)}`,
        { hint: "An older qedit than the one that registered it last cannot register its own" },
      );
    const id = this.#idIn(body, subject);
    await this.#call("PUT", `config/${subject}`, { compatibility: "BACKWARD" });
    return { name, subject, id };
  }

  /** The schema with an id. Throws QEDIT_E_USAGE if there is none. */
  schemaOf(id: number): Promise<AvroSchema> {
    const known = this.#schemas.get(id);
    if (known !== undefined) return known;
    const asked = this.#fetchSchema(id);
    // Ids never change, but a registry that is down comes back.
    asked.catch(() => this.#schemas.delete(id));
    this.#schemas.set(id, asked);
    return asked;
  }

  async #fetchSchema(id: number): Promise<AvroSchema> {
    const { status, body } = await this.#call("GET", `schemas/ids/${id}`);
    if (status === ABSENT)
      throw new QeditError("QEDIT_E_USAGE", `Cannot read the message: ${this.url} has no schema ${id}`, {
        hint: "Its writer uses another registry",
      });
    const { schema, schemaType = "AVRO", references = [] } = isObject(body) ? body : {};
    if (schemaType !== "AVRO" || !Array.isArray(references) || references.length > 0)
      throw new QeditError("QEDIT_E_USAGE", `Cannot read the message: schema ${id} is not Avro's, or in several parts`);
    try {
      return JSON.parse(schema as string) as AvroSchema;
    } catch {
      throw this.#failure(`schema ${id} is no JSON`);
    }
  }

  #idIn(body: unknown, subject: string): number {
    const id = isObject(body) ? body["id"] : undefined;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 0xffffffff)
      throw this.#failure(`it gives no id for ${subject}`);
    return id;
  }

  // Answers that say that something is absent or in conflict are the caller's; all others are failures.
  async #call(method: string, path: string, sent?: object): Promise<{ status: number; body: unknown }> {
    const headers: Record<string, string> = { accept: MEDIA_TYPE };
    if (sent !== undefined) headers["content-type"] = MEDIA_TYPE;
    if (this.#authorization !== undefined) headers["authorization"] = this.#authorization;
    let status: number;
    let text: string;
    try {
      const answer = await fetch(new URL(path, this.#base), {
        ...{ method, headers, redirect: "error", signal: AbortSignal.timeout(ANSWER_WITHIN) },
        ...(sent !== undefined && { body: JSON.stringify(sent) }),
      });
      ({ status } = answer);
      text = await boundedText(answer);
    } catch (error) {
      throw this.#failure(reasonOf(error), error);
    }
    const isExpected = (status >= 200 && status < 300) || status === ABSENT || status === CONFLICT;
    const body = parsed(text);
    // A web server that is no registry answers 404 too.
    if (!isExpected || body === undefined || (status >= 300 && !(isObject(body) && "error_code" in body)))
      throw this.#failure(`it answers ${status} ${textOf(body)}`.trimEnd());
    return { status, body };
  }

  #failure(reason: string, cause?: unknown): QeditError {
    return new QeditError("QEDIT_E_NETWORK", `Cannot ask the schema registry ${this.url}: ${reason}`, {
      hint: `\`curl ${this.url}subjects\` says whether it answers`,
      cause,
    });
  }
}

async function boundedText({ body }: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of (body ?? []) as AsyncIterable<Uint8Array>) {
    size += part.length;
    if (size > MOST_BYTES) throw new Error(`its answer has more than ${MOST_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

// undefined for what is no percent-encoding.
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function textOf(body: unknown): string {
  const { message } = isObject(body) ? body : {};
  return typeof message === "string" ? message.slice(0, 500) : "";
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer within ${ANSWER_WITHIN / 1000} s`;
  const { cause } = error;
  return cause instanceof Error
    ? cause.message || ((cause as NodeJS.ErrnoException).code ?? error.message)
    : error.message;
}
