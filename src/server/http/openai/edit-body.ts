// Bodies of OpenAI's image edits: forms and JSON, pictures as files, data URLs, and URLs of allowed hosts.

import type { NamedBytes } from "../../../edit/request/edit-request.js";
import { maskOfAlpha } from "../../../image/io/alpha-mask.js";
import { fromBase64 } from "../../../std/base64.js";
import { isObject } from "../../../std/guards.js";
import { givenTwice, inOrder, onlyOne } from "../form-parts.js";
import { HttpError } from "../http-error.js";
import type { FormPart } from "../multipart.js";
import { MASK_FIELD, namelessOf } from "../request-body.js";
import { fetchPicture, type RemoteOptions } from "./remote-picture.js";

/** A body, with its pictures read. */
export interface EditBody {
  readonly pictures: readonly NamedBytes[];
  /** White where the edit belongs. */
  readonly mask: NamedBytes | undefined;
  /** All other fields. */
  readonly fields: Readonly<Record<string, unknown>>;
}

const PICTURE_PART = /^(image|images)(\[\d*\])?$/;
const URL_PART = /^(url|image_url)(\[\d*\])?$/;
/** `lora[name]`, as SDKs write nested objects. */
const NESTED = /^(\w+)\[([^\]]+)\]$/;

/** Reads the parts of a form. Throws HttpError 400, QEDIT_E_USAGE, QEDIT_E_IMAGE, QEDIT_E_NETWORK. */
export async function ofForm(parts: readonly FormPart[], remote: RemoteOptions): Promise<EditBody> {
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
  const pictures: NamedBytes[] = [];
  for (const part of inOrder(sent)) pictures.push(await pictureOf(part, remote));
  const values: [string, unknown][] = [
    ...[...fields].map(([name, all]): [string, unknown] => [name, all.length === 1 ? all[0] : all]),
    ...[...nested].map(([name, object]): [string, unknown] => [name, Object.fromEntries(object)]),
  ];
  const masked = mask && (await pictureOf(mask, remote));
  return { pictures, mask: await inverted(masked), fields: Object.fromEntries(values) };
}

/** Reads a JSON body. Throws as ofForm. */
export async function ofJson(json: Readonly<Record<string, unknown>>, remote: RemoteOptions): Promise<EditBody> {
  const { images, image, mask, url, ...fields } = json;
  const written = [images, image, url].flatMap((value) =>
    value === undefined || value === null ? [] : [value].flat(),
  );
  const pictures: NamedBytes[] = [];
  for (const [index, value] of written.entries()) pictures.push(await ofReference(value, `images[${index}]`, remote));
  return {
    pictures,
    mask: mask === undefined || mask === null ? undefined : await inverted(await ofReference(mask, "mask", remote)),
    fields,
  };
}

// A text, or an object with image_url, as OpenAI's JSON has it.
function ofReference(value: unknown, parameter: string, remote: RemoteOptions): Promise<NamedBytes> {
  if (typeof value === "string") return ofUrl(value, parameter, remote);
  if (isObject(value)) {
    if (value["file_id"] !== undefined)
      throw new HttpError(400, "unsupported_parameter", `Cannot use "file_id": files are not kept here`, {
        hint: "Send the picture as a data URL",
        parameter,
      });
    const { image_url: url } = value;
    const text = isObject(url) ? url["url"] : (url ?? value["url"]);
    if (typeof text === "string") return ofUrl(text, parameter, remote);
  }
  throw new HttpError(400, "invalid_value", `Cannot use "${parameter}": {"image_url": "data:…"} is wanted`, {
    parameter,
  });
}

async function pictureOf({ name, value }: FormPart, remote: RemoteOptions): Promise<NamedBytes> {
  return typeof value === "string" ? ofUrl(value, name, remote) : value;
}

async function ofUrl(text: string, parameter: string, remote: RemoteOptions): Promise<NamedBytes> {
  if (/^https?:/i.test(text)) return fetchPicture(text, parameter, remote);
  return { name: namelessOf(parameter), bytes: fromBase64(text, parameter) };
}

async function inverted(mask: NamedBytes | undefined): Promise<NamedBytes | undefined> {
  return mask && { name: mask.name, bytes: await maskOfAlpha(mask.bytes, mask.name) };
}

function bare(name: string): string {
  return name.slice(0, 100).replace(/\[\d*\]$/, "");
}
