// The page in a real Chromium, against a real `qedit serve` with the tiny models of Qwen-Image-2.1: a picture of a prompt alone, and more than three pictures.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { startServer, type TestServer } from "../support/server.js";
import { smallModel } from "../support/tiny-2.js";
import { browser, CHROMIUM } from "./browser.js";
import { contentOf, jobOf } from "./jobs.js";

const title = CHROMIUM === undefined ? "the page: skipped, no Chromium: apt-get install chromium" : "the page";

describe.skipIf(CHROMIUM === undefined)(title, () => {
  const folder = temporaryFolder();
  const open = browser();
  let server: TestServer;

  beforeAll(async () => {
    server = await startServer({ folder: folder.path, env: await smallModel(folder.path) });
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
