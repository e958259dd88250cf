// The page in a real Chromium, against a real `qedit serve` with the tiny models of Qwen-Image-2.1: a picture of a prompt alone, and more than three pictures.
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { startServer, type TestServer } from "../support/server.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { browser, CHROMIUM } from "./browser.js";
import { contentOf, jobOf } from "./jobs.js";

const title = CHROMIUM === undefined ? "the page: skipped, no Chromium: apt-get install chromium" : "the page";

describe.skipIf(CHROMIUM === undefined)(title, () => {
  const folder = temporaryFolder();
  const open = browser();
  let server: TestServer;

  beforeAll(async () => {
    const at = (name: string) => join(folder.path, "models", name);
    const files = {
      vae: at("vae/small-vae.safetensors"),
      textEncoder: at("text_encoders/small-text-encoder.safetensors"),
      transformer: at("diffusion_models/small-transformer.safetensors"),
    };
    for (const kind of ["vae", "text_encoders", "diffusion_models"]) mkdirSync(at(kind), { recursive: true });
    copyFileSync(fixture("tiny-2/vae.safetensors"), files.vae);
    copyFileSync(fixture("tiny-2/transformer.safetensors"), files.transformer);
    copyFileSync(await tinyTextEncoder2({ folder: folder.path }), files.textEncoder);
    const catalogue = JSON.parse(readFileSync("models.json", "utf8")) as {
      models: Record<string, { files: Record<string, unknown>; defaults: object }>;
    };
    const published = catalogue.models["qwen-image-2.1"]!;
    const written = Object.entries(files).map(([role, path]) => {
      const file = path.slice(path.lastIndexOf("/") + 1);
      const facts = { file, bytes: statSync(path).size, licence: "Apache-2.0" };
      return [role, { ...facts, repository: "no/where", path: file, revision: "main" }];
    });
    catalogue.models["small"] = {
      ...published,
      files: Object.fromEntries(written),
      defaults: { ...published.defaults, steps: 2 },
    };
    const path = folder.at("catalogue.json");
    writeFileSync(path, JSON.stringify(catalogue));
    const env = { QEDIT_CATALOG: path, QEDIT_MODELS: join(folder.path, "models") };
    server = await startServer({ folder: folder.path, env });
  }, 60_000);
  afterAll(() => server.stop());

  test("a model that generates takes no picture, or up to ten", async () => {
    const { page, expectClean } = await open(server.url);
    const hint = page.locator("#drop-hint");
    await expect.poll(() => hint.textContent()).toBe("1 to 3, the first one is edited");
    await page.fill("#prompt", "a fox");
    await page.click("#submit");
    await page.getByText("Choose a picture first").waitFor();
    await page.selectOption("#model", "small");
    await expect.poll(() => hint.textContent()).toBe("None to 10, the first one is edited");
    await page.evaluate("document.getElementById('more').open = true");
    await page.fill("#size", "64x96");
    await page.click("#submit");
    await page.getByText("Download").waitFor({ timeout: 60_000 });
    const id = () => new URL(page.url()).hash.replace("#job=", "");
    const first = id();
    expect(await jobOf(server.url, first)).toMatchObject({ state: "completed", inputs: [] });
    const { default: sharp } = await import("sharp");
    expect(await sharp(await contentOf(server.url, first)).metadata()).toMatchObject({ width: 64, height: 96 });

    await page.setInputFiles("#files", [CAT, ROCKET, CAT, ROCKET]);
    await expect.poll(() => page.locator("#pictures .name").count()).toBe(4);
    await page.fill("#prompt", "the cat beside the rocket");
    await page.click("#submit");
    await expect.poll(id, { timeout: 60_000 }).not.toBe(first);
    await page.locator(".compare input").waitFor({ timeout: 60_000 });
    expect((await jobOf(server.url, id())).inputs).toHaveLength(4);
    await page.selectOption("#model", "");
    await expect.poll(() => hint.textContent()).toBe("1 to 3, the first one is edited");
    expectClean();
  }, 120_000);
});
