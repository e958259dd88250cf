// The model that a request names: one of the catalogue, or 404.
import { modelNames } from "../../catalog/published/models.js";
import { HttpError } from "./http-error.js";

const LONGEST_SHOWN = 100;

/** The name of a model of the catalogue. Throws HttpError 404. */
export async function knownModel(name: string): Promise<string> {
  const names = await modelNames();
  if (names.includes(name)) return name;
  throw new HttpError(404, "model_not_found", `There is no model "${name.slice(0, LONGEST_SHOWN)}"`, {
    hint: `Use one of ${names.join(", ")}`,
    parameter: "model",
  });
}
