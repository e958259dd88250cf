// The API key of a server, compared in constant time.
import { createHash, timingSafeEqual } from "node:crypto";

/** What is wrong with the key of a call, given its header `authorization` and `x-api-key`; undefined: nothing. */
export type KeyCheck = (
  authorization: string | undefined,
  apiKey: string | undefined,
) => { readonly message: string; readonly hint?: string } | undefined;

/** Checks calls against a key; without one all may call. */
export function keyCheck(key: string | undefined): KeyCheck {
  if (key === undefined) return () => undefined;
  const wanted = digest(key);
  return (authorization, apiKey) => {
    const given = /^Bearer +(\S+)\s*$/i.exec(authorization ?? "")?.[1] ?? apiKey;
    if (given === undefined)
      return { message: "An API key is needed", hint: "Send the header Authorization: Bearer KEY" };
    return timingSafeEqual(digest(given), wanted) ? undefined : { message: "The API key is wrong" };
  };
}

// Of equal lengths, whatever was given.
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
