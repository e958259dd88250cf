// The models of the catalogue over HTTP, as OpenAI's API lists and shows them.
import { Hono } from "hono";
import { type ModelOnDisk, modelsOnDisk } from "../../catalog/local/inventory.js";
import type { HttpApp, HttpContext, HttpEnv } from "./http-context.js";
import { modelNotFound } from "./openai/edit-fields.js";
import { queryOf } from "./query.js";

/** The routes of models. */
export function modelRoutes({ server }: HttpContext): HttpApp {
  const app = new Hono<HttpEnv>();
  const models = () => modelsOnDisk({ modelsDirs: server.base.settings.modelsDir });
  // Of requests that name no model.
  const { model: own } = server.base.settings;
  app.get("/v1/models", async (c) => {
    const all = await models();
    const wanted = queryOf(c, "all", /^(true|false)$/) === "true" ? all : all.filter(({ missing }) => missing === 0);
    return c.json({ object: "list", data: wanted.map((model) => shownModel(model, own)) });
  });
  // Clients do not encode slashes of names.
  app.get("/v1/models/:model{.+}", async (c) => {
    const name = c.req.param("model");
    const all = await models();
    const found = all.find(({ model }) => model.name === name);
    if (found !== undefined) return c.json(shownModel(found, own));
    throw modelNotFound(
      name,
      all.map(({ model }) => model.name),
    );
  });
  return app;
}

/** A model as OpenAI's API has it, and what is ours; `own` is the model of requests that name none, if the server has another than the catalogue. */
function shownModel({ model, isDefault, missing, loras }: ModelOnDisk, own: string | undefined): object {
  return {
    ...{ id: model.name, object: "model", created: 0, owned_by: "qedit" },
    ...{
      summary: model.summary,
      is_complete: missing === 0,
      is_default: own === undefined ? isDefault : model.name === own,
    },
    generates: model.generates === true,
    presets: Object.keys(model.presets),
    loras: Object.entries(loras).flatMap(([name, { path }]) => (path === undefined ? [] : [name])),
  };
}
