// Values of a request's query.
import type { Context } from "hono";
import type { HttpEnv } from "./http-context.js";
import { HttpError } from "./http-error.js";

/** A value of the query; undefined where it is not given. Throws HttpError 400 for one that is given twice or not in its form. */
export function queryOf(c: Context<HttpEnv>, name: string, form: RegExp): string | undefined {
  const values = c.req.queries(name) ?? [];
  if (values.length > 1 || values.some((value) => !form.test(value))) throw invalidQuery(name);
  return values[0];
}

/** The error for a value of the query. */
export function invalidQuery(name: string): HttpError {
  return new HttpError(400, "invalid_value", `Cannot use "${name}" of the query`, {
    hint: "See /docs",
    parameter: name,
  });
}
