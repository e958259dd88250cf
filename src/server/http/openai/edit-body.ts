// Bodies of OpenAI's image edits: forms and JSON, pictures as files, data URLs, and URLs of allowed hosts.

import type { NamedBytes } from "../../../edit/request/edit-request.js";
import { maskOfAlpha } from "../../../image/io/alpha-mask.js";
import { fromBase64 } from "../../../std/base64.js";
import { isObject } from "../../../std/guards.js";
import { givenTwice, inOrder, onlyOne } from "../form-parts.js";
import { HttpError } from "../http-error.js";
import type { FormPart } from "../multipart.js";
import { MASK_FIELD, namelessOf } from "../request-body.js";
import type { FetchPicture } from "./remote-picture.js";

/** A body. Its pictures may lie elsewhere: they are fetched when all else is known to be right. */
export interface EditBody {
  /** How many pictures it names, without the mask. */
  readonly count: number;
  /** Reads or fetches them. Throws HttpError 400, QEDIT_E_IMAGE, QEDIT_E_NETWORK. */
  readonly read: (fetchPicture: FetchPicture) => Promise<SentPictures>;
  /** All other fields. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The pictures of a body, in order. */
export interface SentPictures {
  readonly pictures: readonly NamedBytes[];
  /** White where the edit belongs. */
  readonly mask: NamedBytes | undefined;
}

const PICTURE_PART = /^(image|images)(\[\d*\])?$/;
const URL_PART = /^(url|image_url)(\[\d*\])?$/;
/** `lora[name]`, as SDKs write nested objects. */
const NESTED = /^(\w+)\[([^\]]+)\]$/;

/** Reads the parts of a form. Throws HttpError 400, QEDIT_E_USAGE. */
export function ofForm(parts: readonly FormPart[]): EditBody {
  const sent: FormPart[] = [];
  const masks: FormPart[] = [];
  const fields = new Map<string, unknown[]>();
  const nested = new Map<string, Map<string, string>>();
  for (const part of parts) {
    const { name, value } = part;
    if (MASK_FIELD.test(name)) masks.push(part);
    else if (PICTURE_PART.test(name)) sent.push(part);
    else if (typeof value !== "string")
      throw new HttpError(400, "unsupported_parameter", `Cannot take a file as "${bare(name)}"`, {
        parameter: bare(name),
      });
    else if (URL_PART.test(name)) sent.push(part);
    else {
      const [, outer, inner] = NESTED.exec(name) ?? [];
      if (outer !== undefined && !/^\d+$/.test(inner!)) {
        const object = nested.get(outer) ?? new Map<string, string>();
        if (object.has(inner!)) throw givenTwice(name, name);
        nested.set(outer, object.set(inner!, value));
      } else fields.set(bare(name), [...(fields.get(bare(name)) ?? []), value]);
    }
  }
  for (const name of nested.keys()) if (fields.has(name)) throw givenTwice(name, `${name}[…]`);
  const mask = onlyOne(masks);
  const values: [string, unknown][] = [
    ...[...fields].map(([name, all]): [string, unknown] => [name, all.length === 1 ? all[0] : all]),
    ...[...nested].map(([name, object]): [string, unknown] => [name, Object.fromEntries(object)]),
  ];
  const pictures = inOrder(sent);
  return {
    count: pictures.length,
    read: (fetchPicture) =>
      readAll({ pictures, mask }, ({ name, value }) =>
        typeof value === "string" ? ofUrl(value, name, fetchPicture) : Promise.resolve(value),
      ),
    fields: Object.fromEntries(values),
  };
}

/** Reads a JSON body. */
export function ofJson(json: Readonly<Record<string, unknown>>): EditBody {
  const { images, image, mask, url, ...fields } = json;
  const written = [images, image, url].flatMap((value) =>
    value === undefined || value === null ? [] : [value].flat(),
  );
  const pictures = written.map((value, index): Reference => ({ value, parameter: `images[${index}]` }));
  return {
    count: pictures.length,
    read: (fetchPicture) =>
      readAll(
        { pictures, mask: mask === undefined || mask === null ? undefined : { value: mask, parameter: "mask" } },
        (reference) => ofReference(reference, fetchPicture),
      ),
    fields,
  };
}

// One after the other: what is fetched counts together.
async function readAll<Sent>(
  { pictures, mask }: { readonly pictures: readonly Sent[]; readonly mask: Sent | undefined },
  read: (sent: Sent) => Promise<NamedBytes>,
): Promise<SentPictures> {
  const all: NamedBytes[] = [];
  for (const picture of pictures) all.push(await read(picture));
  return { pictures: all, mask: await inverted(mask && (await read(mask))) };
}

interface Reference {
  readonly value: unknown;
  readonly parameter: string;
}

// A text, or an object with image_url, as OpenAI's JSON has it.
function ofReference({ value, parameter }: Reference, fetchPicture: FetchPicture): Promise<NamedBytes> {
  if (typeof value === "string") return ofUrl(value, parameter, fetchPicture);
  if (isObject(value)) {
    if (value["file_id"] !== undefined)
      throw new HttpError(400, "unsupported_parameter", `Cannot use "file_id": files are not kept here`, {
        hint: "Send the picture as a data URL",
        parameter,
      });
    const { image_url: url } = value;
    const text = isObject(url) ? url["url"] : (url ?? value["url"]);
    if (typeof text === "string") return ofUrl(text, parameter, fetchPicture);
  }
  throw new HttpError(400, "invalid_value", `Cannot use "${parameter}": {"image_url": "data:…"} is wanted`, {
    parameter,
  });
}

async function ofUrl(text: string, parameter: string, fetchPicture: FetchPicture): Promise<NamedBytes> {
  if (/^https?:/i.test(text)) return fetchPicture(text, parameter);
  return { name: namelessOf(parameter), bytes: fromBase64(text, parameter) };
}

async function inverted(mask: NamedBytes | undefined): Promise<NamedBytes | undefined> {
  return mask && { name: mask.name, bytes: await maskOfAlpha(mask.bytes, mask.name) };
}

function bare(name: string): string {
  return name.slice(0, 100).replace(/\[\d*\]$/, "");
}
