// The image edits of OpenAI's API, by OpenAI's own package for Node.
import { copyFileSync, createReadStream, readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";

const folder = temporaryFolder();
const prompt = "make it black and white";
/** Fields that the package does not know go through it unchanged. */
const SMALL = { megapixels: 0.02, num_inference_steps: 2 } as object;

let server: TestServer;
let client: OpenAI;
beforeAll(async () => {
  server = await startServer({ folder: folder.path });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
});
afterAll(() => server.stop("SIGKILL"));

function bytesOf(written: string | undefined): Buffer {
  return Buffer.from(written!, "base64");
}

describe("an edit", () => {
  test("has the bytes of qedit run", async () => {
    const made = await client.images.edit({ image: createReadStream(CAT), prompt, model: "tiny", ...SMALL });
    expect(made).toMatchObject({ size: "192x128", output_format: "png", background: "opaque" });
    const wanted = await ran([CAT], { prompt, megapixels: "0.02", steps: "2" }, folder);
    expect(bytesOf(made.data?.[0]?.b64_json).equals(wanted)).toBe(true);
  });

  test.each(["می\u200cخواهم.jpg", "👨\u200d👩\u200d👧.jpg"])(
    "of %s has the name that qedit run gives it",
    async (name) => {
      copyFileSync(CAT, folder.at(name));
      const made = await client.images.edit({ image: await toFile(readFileSync(CAT), name), prompt, ...SMALL });
      const wanted = await ran([folder.at(name)], { prompt, megapixels: "0.02", steps: "2" }, folder);
      expect(bytesOf(made.data?.[0]?.b64_json).equals(wanted)).toBe(true);
    },
  );

  test("takes several pictures, a seed, a format and its compression", async () => {
    const colours = "the colours of picture 2";
    const made = await client.images.edit({
      ...{
        image: [createReadStream(ROCKET), createReadStream(CAT)],
        prompt: colours,
        output_format: "webp",
        output_compression: 70,
      },
      ...{ ...SMALL, seed: 3 },
    });
    const fields = { prompt: colours, megapixels: "0.02", steps: "2", seed: "3", format: "webp", webp_quality: "70" };
    expect(bytesOf(made.data?.[0]?.b64_json).equals(await ran([ROCKET, CAT], fields, folder))).toBe(true);
  });

  test("makes n pictures, of seeds that follow each other", async () => {
    const made = await client.images.edit({
      image: createReadStream(CAT),
      prompt,
      n: 2,
      ...SMALL,
      ...({ seed: "41" } as object),
    });
    for (const [index, { b64_json }] of made.data!.entries()) {
      const wanted = await ran([CAT], { prompt, megapixels: "0.02", steps: "2", seed: String(41 + index) }, folder);
      expect(bytesOf(b64_json).equals(wanted)).toBe(true);
    }
  });

  test("with a mask that is transparent where the edit belongs keeps the other pixels", async () => {
    const { width = 0, height = 0 } = await sharp(CAT).metadata();
    const half = {
      input: { create: { width: width >> 1, height, channels: 4, background: "black" } },
      left: 0,
      top: 0,
    } as const;
    const mask = await sharp({ create: { width, height, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
      .composite([half])
      .png()
      .toBuffer();
    const made = await client.images.edit({
      ...{ image: createReadStream(CAT), prompt, mask: await toFile(mask, "mask.png") },
      ...SMALL,
      ...({ keep_size: "true", feather: 0 } as object),
    });
    const pixels = async (picture: Buffer | string) => {
      const { data } = await sharp(picture)
        .removeAlpha()
        .extract({ left: 0, top: 0, width: 100, height })
        .raw()
        .toBuffer({ resolveWithObject: true });
      return data;
    };
    expect((await pixels(bytesOf(made.data?.[0]?.b64_json))).equals(await pixels(CAT))).toBe(true);
  });

  test("comes as JSON with data URLs too", async () => {
    const image_url = `data:image/jpeg;base64,${readFileSync(CAT).toString("base64")}`;
    const response = await fetch(`${server.url}/v1/images/edits`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt, images: [{ image_url }], size: "160x112", steps: 2, user: "me" }),
    });
    expect([response.status, await response.json()]).toEqual([200, expect.objectContaining({ size: "160x112" })]);
  });

  test("streams previews while it samples, then the picture", async () => {
    const stream = await client.images.edit({
      ...{ image: createReadStream(CAT), prompt: "make it winter", stream: true, partial_images: 2 },
      ...({ megapixels: 0.02, num_inference_steps: 5, seed: 88 } as object),
    });
    const events = [];
    for await (const event of stream) events.push(event);
    expect(events.map(({ type }) => type)).toEqual([
      "image_edit.partial_image",
      "image_edit.partial_image",
      "image_edit.completed",
    ]);
    expect(events.slice(0, 2).map((event) => "partial_image_index" in event && event.partial_image_index)).toEqual([
      0, 1,
    ]);
    const fields = { prompt: "make it winter", megapixels: "0.02", steps: "5", seed: "88" };
    expect(bytesOf(events[2]!.b64_json).equals(await ran([CAT], fields, folder))).toBe(true);
  });
});

test("edits whose client has gone before they were accepted are not made", async () => {
  const status = async () => (await (await fetch(`${server.url}/v1/status`)).json()) as { queued: number };
  const slow = { ...SMALL, num_inference_steps: 20, seed: 70 };
  const running = client.images.edit({ image: createReadStream(CAT), prompt, ...slow }).catch(() => {});
  await expect.poll(status).toMatchObject({ running: 1 });
  const body = new FormData();
  body.append("image", new Blob([readFileSync(CAT)]), "cat.jpg");
  body.append("prompt", prompt);
  for (let milliseconds = 0; milliseconds < 20; milliseconds += 4) {
    const gone = new AbortController();
    const sent = fetch(`${server.url}/v1/images/edits`, { method: "POST", body, signal: gone.signal });
    setTimeout(() => gone.abort(), milliseconds);
    await sent.catch(() => {});
  }
  await expect.poll(status).toMatchObject({ queued: 0, running: 1 });
  await running;
});

test("an edit whose client has gone is cancelled between two steps", async () => {
  const cancelled = () => server.log.filter(({ msg }) => /^job \S+ cancelled/.test(msg)).length;
  const before = cancelled();
  const status = async () => (await (await fetch(`${server.url}/v1/status`)).json()) as { running: number };
  for (const stream of [false, true]) {
    const gone = new AbortController();
    const long = { ...SMALL, num_inference_steps: 200, seed: 71, stream };
    const sent = client.images
      .edit({ image: createReadStream(CAT), prompt, ...long }, { signal: gone.signal })
      .catch(() => undefined);
    await expect.poll(status).toMatchObject({ running: 1 });
    gone.abort();
    await sent;
    await expect.poll(status).toMatchObject({ running: 0 });
  }
  expect(cancelled()).toBe(before + 2);
});

test("keep_alive says how long the networks stay open after it", async () => {
  const sessions = async () =>
    ((await (await fetch(`${server.url}/v1/status`)).json()) as { sessions: readonly object[] }).sessions.length;
  const fields = { ...SMALL, seed: 9 };
  await client.images.edit({ image: createReadStream(CAT), prompt, ...fields, ...({ keep_alive: 0 } as object) });
  await expect.poll(sessions).toBe(0);
  await client.images.edit({ image: createReadStream(CAT), prompt, ...fields, ...({ keep_alive: "5m" } as object) });
  expect(await sessions()).toBeGreaterThan(0);
});

describe("what cannot be used", () => {
  test.each<[object, number, string, string | undefined]>([
    [{ model: "nobody" }, 404, "model_not_found", "model"],
    [{ background: "transparent" }, 400, "unsupported_parameter", "background"],
    [{ size: "100x100" }, 400, "invalid_request", "size"],
    [{ size: "large" }, 400, "invalid_request", "size"],
    [{ n: 11 }, 400, "invalid_value", "n"],
    [{ output_format: "gif" }, 400, "invalid_value", "output_format"],
    [{ quality: "high" }, 400, "unsupported_parameter", "quality"],
    [{ response_format: "url" }, 400, "unsupported_parameter", "response_format"],
    [{ prompt: "" }, 400, "invalid_request", "prompt"],
    [{ nonsense: 1 }, 400, "unsupported_parameter", "nonsense"],
    [{ vae: "/etc/passwd" }, 400, "invalid_request", "vae"],
    [{ num_inference_steps: "many" }, 400, "invalid_request", "steps"],
    [{ mask: new File(["x"], "mask.png") }, 400, "invalid_image", undefined],
  ])("%j is refused by name", async (fields, status, code, param) => {
    const call = client.images.edit({ image: createReadStream(CAT), prompt, ...fields });
    const error = await call.then(
      () => undefined,
      (reason: InstanceType<typeof OpenAI.APIError>) => reason,
    );
    expect([error?.status, error?.code, error?.param ?? undefined]).toEqual([status, code, param]);
    expect(error?.requestID).toMatch(/^[\w-]{10,}$/);
  });

  test.each<[string, string, string]>([
    ['"complexity": 1', "unsupported_parameter", "complexity"],
    ['"constructor": 5', "unsupported_parameter", "constructor"],
    ['"__proto__": {"steps": 1}', "unsupported_parameter", "__proto__"],
    ['"true_cfg_scale": 4, "cfg_scale": 1', "invalid_value", "cfg_scale"],
    ['"paste_back": "maybe"', "invalid_request", "paste_back"],
    ['"seed": 9007199254740993', "invalid_request", "seed"],
  ])("%s in JSON is refused by name", async (field, code, param) => {
    const image = `data:image/jpeg;base64,${readFileSync(CAT).toString("base64")}`;
    const body = `{"prompt": "x", "images": ["${image}"], ${field}}`;
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${server.url}/v1/images/edits`, { method: "POST", body, headers });
    expect([response.status, ((await response.json()) as { error: object }).error]).toMatchObject([
      400,
      { code, param },
    ]);
  });

  test("a model without its files is refused by their names, not where they are looked for", async () => {
    const asked = client.images.edit({ image: createReadStream(CAT), prompt, model: "qwen-image-edit-2509" });
    const { status, error } = (await asked.catch((reason: unknown) => reason)) as { status: number; error: object };
    expect([status, error]).toMatchObject([404, { code: "model_not_found" }]);
    expect(JSON.stringify(error)).toContain("qwen_image_vae.safetensors");
    expect(JSON.stringify(error)).not.toMatch(/\/(tmp|home|root|qedit)\//);
  });

  test("a picture that is none is refused", async () => {
    const image = await toFile(Buffer.from("no picture"), "x.png");
    await expect(client.images.edit({ image, prompt })).rejects.toMatchObject({ status: 400, code: "invalid_image" });
  });
});

test("models are listed, and what is complete can be asked for", async () => {
  const { data } = await client.models.list();
  expect(data.map(({ id, object }) => [id, object])).toEqual([["tiny", "model"]]);
});

test("a model is shown by its name, as in the list; one that nobody published is not found", async () => {
  const { data } = await client.models.list();
  expect(await client.models.retrieve("tiny")).toEqual(data[0]);
  expect(await client.models.retrieve("qwen-image-2.1")).toMatchObject({ object: "model", is_complete: false });
  const shown = async (name: string) => {
    const response = await fetch(`${server.url}/v1/models/${name}`);
    return [response.status, ((await response.json()) as { id?: string }).id];
  };
  expect(await shown("t%69ny")).toEqual([200, "tiny"]);
  await expect(client.models.retrieve("Qwen/Qwen-Image-Edit")).rejects.toMatchObject({ status: 404 });
  for (const name of ["nobody", "Qwen/Qwen-Image-Edit", "Qwen%2FQwen-Image-Edit", "%ff", "constructor"]) {
    const response = await fetch(`${server.url}/v1/models/${name}`);
    expect([name, response.status, await response.json()]).toMatchObject([
      name,
      404,
      { error: { code: "model_not_found", param: "model" } },
    ]);
  }
  for (const path of ["tiny/load", "unload"]) {
    const response = await fetch(`${server.url}/v1/models/${path}`);
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
  }
});

describe("a generation", () => {
  const generate = (body: object | string, type = "application/json") =>
    fetch(`${server.url}/v1/images/generations`, {
      method: "POST",
      headers: { "content-type": type },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });

  test("is refused by a model that only edits", async () => {
    await expect(client.images.generate({ prompt: "a red bicycle", model: "tiny" })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("No picture was given"),
    });
  });

  test.each([
    ["with a picture", { prompt, image: "data:image/png;base64,AAAA" }, 400, /A generation takes no pictures/],
    ["with a mask", { prompt, mask: { image_url: "data:image/png;base64,AAAA" } }, 400, /takes no pictures/],
  ] as const)("%s is refused", async (_, body, status, message) => {
    const answer = await generate(body);
    expect(answer.status).toBe(status);
    expect(await answer.text()).toMatch(message);
  });

  test("as a form is refused", async () => {
    const answer = await generate("prompt=a", "application/x-www-form-urlencoded");
    expect(answer.status).toBe(415);
  });
});
