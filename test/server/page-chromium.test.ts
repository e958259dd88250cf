// The page in a real Chromium, against a real `qedit serve` with the embedded model: from drop to download.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT, ROCKET } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import { startServer, type TestServer } from "../support/server.js";
import { barriers, browser, CHROMIUM, give } from "./browser.js";
import { contentOf, endOf, formOf, jobOf, sendJob } from "./jobs.js";
import { ran } from "./ran.js";

/** An edit of a second. */
const SMALL = { prompt: "make it sepia", megapixels: "0.03", steps: "2", seed: "7" };
/** One that runs long enough to be looked at. */
const LONG = { prompt: "make it winter", megapixels: "0.1", steps: "60", seed: "7" };
/** Milliseconds in which an edit ends here. */
const PATIENCE = 60_000;

const title = CHROMIUM === undefined ? "the page: skipped, no Chromium: apt-get install chromium" : "the page";

describe.skipIf(CHROMIUM === undefined)(title, () => {
  const folder = temporaryFolder();
  const open = browser();
  let server: TestServer;
  let files = 0;

  beforeAll(async () => {
    server = await startServer({ folder: folder.path });
  });
  afterAll(() => server.stop());

  const idOf = (page: Page) => new URL(page.url()).hash.replace("#job=", "");

  /** Fills the form; the result is not waited for. */
  const fill = async (page: Page, { prompt, seed, ...more }: Partial<typeof SMALL>): Promise<void> => {
    if (prompt !== undefined) await page.fill("#prompt", prompt);
    if (seed !== undefined) {
      await page.getByLabel("Fixed", { exact: true }).check();
      await page.fill("#seed", seed);
    }
    await page.evaluate("document.getElementById('more').open = true");
    for (const [name, value] of Object.entries(more)) await page.fill(`#${name}`, value);
  };

  const result = (page: Page) => page.locator(".compare input").waitFor({ timeout: PATIENCE });

  const download = async (page: Page): Promise<{ readonly name: string; readonly bytes: Buffer }> => {
    const [started] = await Promise.all([page.waitForEvent("download"), page.getByText("Download").click()]);
    files += 1;
    const path = folder.at(`download-${files}`);
    await started.saveAs(path);
    return { name: started.suggestedFilename(), bytes: readFileSync(path) };
  };

  test("an edit from drop to download gives the bytes of qedit run, line breaks and a seed of 64 bits included", async () => {
    const { page, expectClean } = await open(server.url);
    await give(page, "drop", [CAT]);
    await page.getByText("The server's default: tiny").waitFor({ state: "attached" });
    const edit = { ...SMALL, prompt: "make it sepia\nand brighter ", seed: "18446744073709551615" };
    await fill(page, edit);
    await page.press("#prompt", "Control+Enter");
    await result(page);
    const { name, bytes } = await download(page);
    expect(name).toBe("cat-edit.png");
    expect(bytes.equals(await ran([CAT], edit, folder))).toBe(true);
    expectClean();
  });

  test("the slider between before and after is moved by keyboard", async () => {
    const { id } = await sendJob(server.url, formOf([CAT], SMALL));
    await endOf(server.url, id);
    const { page } = await open(`${server.url}/#job=${id}`);
    const slider = page.getByRole("slider", { name: "Share of the original" });
    await slider.focus();
    const expectShare = async (share: number) => {
      expect(await slider.getAttribute("aria-valuetext")).toBe(`${share} % before, ${100 - share} % after`);
      const clip = await page.locator(".before").evaluate((image) => (image as unknown as HTMLImage).style.clipPath);
      expect(Number(/^inset\(0px(?: (\d+)(?:%|px) 0px 0px)?\)$/.exec(clip)?.[1] ?? 0)).toBe(100 - share);
    };
    await expectShare(50);
    for (const [key, share] of [
      ["ArrowRight", 51],
      ["Home", 0],
      ["End", 100],
    ] as const) {
      await page.keyboard.press(key);
      await expectShare(share);
    }
  });

  test("an edit shows its steps and a preview while it samples, and is cancelled", async () => {
    const { page, expectClean } = await open(server.url);
    await give(page, "paste", [CAT]);
    await fill(page, LONG);
    await page.click("#submit");
    await page.locator(".preview.live").waitFor({ timeout: PATIENCE });
    expect(await page.locator(".working strong").textContent()).toMatch(/^Sampling: step \d+ of 60$/);
    expect(await page.locator("#queue li").count()).toBe(1);
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.getByText("This edit was cancelled").waitFor();
    expect((await jobOf(server.url, idOf(page))).state).toBe("cancelled");
    expect(await page.locator("#queue").isHidden()).toBe(true);
    expectClean();
  });

  test("edits wait with their place, and one that waits is cancelled from the queue", async () => {
    const { page } = await open(server.url);
    await give(page, "drop", [CAT]);
    await fill(page, LONG);
    await page.click("#submit");
    await page.locator(".preview.live").waitFor({ timeout: PATIENCE });
    await page.fill("#prompt", "make it warmer");
    await page.click("#submit");
    const waiting = page.locator("#queue li", { hasText: "make it warmer" });
    await waiting.getByText("Next in the queue").waitFor();
    // The one that is watched stays.
    expect(await page.locator("#view .prompt").textContent()).toBe(LONG.prompt);
    await waiting.getByRole("button", { name: "Cancel: make it warmer" }).click();
    await waiting.waitFor({ state: "detached" });
    await page.locator(".working").getByRole("button", { name: "Cancel" }).click();
    await page.getByText("This edit was cancelled").waitFor();
  });

  test("what the server refuses is said with its hint, at the field", async () => {
    const { page } = await open(server.url);
    await page.click("#submit");
    expect(await page.getByRole("alert").textContent()).toBe("Choose a picture first");
    await give(page, "drop", [CAT]);
    await page.locator("#pictures li").waitFor();
    await fill(page, { prompt: "make it sepia", steps: "many" });
    await page.click("#submit");
    const alert = page.getByRole("alert");
    await alert.getByText('Cannot use "many" for "steps"').waitFor();
    expect(await alert.locator(".hint").count()).toBe(1);
    const steps = page.locator("#steps");
    expect(await steps.getAttribute("aria-invalid")).toBe("true");
    expect(await steps.evaluate((field) => field.matches(":focus"))).toBe(true);
    await steps.fill("2");
    await fill(page, { megapixels: "0.03" });
    await page.click("#submit");
    await result(page);
    expect(await alert.textContent()).toBe("");
    expect(await steps.getAttribute("aria-invalid")).toBeNull();
  });

  test("a picture that cannot be read is an error that names it", async () => {
    const broken = folder.write("<b>broken<b>.jpg", "no picture");
    const { page } = await open(server.url);
    await give(page, "drop", [broken]);
    await fill(page, SMALL);
    await page.click("#submit");
    await page.locator("#problem:not(:empty), .ended.failed").first().waitFor({ timeout: PATIENCE });
    expect(await page.locator("body").textContent()).toContain("broken");
    // A name is a text, whatever it holds.
    expect(await page.locator("#pictures b, #problem b, #view b").count()).toBe(0);
  });

  test("a mask is painted, erased and sent as a PNG that keeps the rest of the picture", async () => {
    const { page, expectClean } = await open(server.url);
    await give(page, "drop", [CAT]);
    await page.getByRole("button", { name: "Mask", exact: true }).click();
    const area = page.getByRole("application", { name: "Mask over picture 1" });
    await area.waitFor();
    expect(await barriers(page)).toEqual([]);
    const box = (await page.locator("#mask-canvas").boundingBox())!;
    const at = (x: number, y: number) => [box.x + box.width * x, box.y + box.height * y] as const;
    await page.locator("#brush-size").fill("30");
    await page.mouse.move(...at(0.2, 0.5));
    await page.mouse.down();
    await page.mouse.move(...at(0.8, 0.5), { steps: 8 });
    await page.mouse.up();
    await page.getByLabel("Erase", { exact: true }).check();
    await page.mouse.move(...at(0.75, 0.5));
    await page.mouse.down();
    await page.mouse.up();
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByRole("button", { name: "Edit mask" }).waitFor();
    await fill(page, SMALL);
    await page.click("#submit");
    await result(page);
    const job = await jobOf(server.url, idOf(page));
    expect(job.parameters).toMatchObject({ paste_back: true });
    expect(job.mask?.name).toBe("cat-mask.png");
    const sent = Buffer.from(await (await fetch(`${server.url}/v1/jobs/${job.id}/mask`)).arrayBuffer());
    const mask = folder.write("masks/cat-mask.png", sent);
    const { bytes } = await download(page);
    expect(bytes.equals(await ran([CAT], { ...SMALL, mask, paste_back: "true" }, folder))).toBe(true);
    expect(await painted(page, sent)).toEqual({ left: true, erased: false, corner: false, isGrey: false });
    await page.getByRole("button", { name: "Load settings" }).click();
    await page.getByRole("button", { name: "Edit mask" }).click();
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.click("#submit");
    await expect.poll(() => idOf(page)).not.toBe(job.id);
    await endOf(server.url, idOf(page));
    expect((await contentOf(server.url, idOf(page))).equals(bytes)).toBe(true);
    expectClean();
  });

  test("a mask is painted by keyboard, undone and cleared", async () => {
    const { page } = await open(server.url);
    await give(page, "drop", [CAT]);
    const openMask = page.locator("#pictures .paint");
    await openMask.click();
    await page.locator("#mask-stack").focus();
    await page.keyboard.press("Space");
    expect(await page.locator("#mask-status").textContent()).toBe("Painted at 50 % from the left, 50 % from the top");
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByRole("button", { name: "Edit mask" }).click();
    await page.getByRole("button", { name: "Clear" }).click();
    await page.locator("#mask-stack").focus();
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Shift+ArrowRight");
    expect(await page.locator("#mask-status").textContent()).toMatch(/^\d+ % from the left, \d+ % from the top$/);
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByRole("button", { name: "Edit mask" }).waitFor();
    // The focus comes back to where it was.
    expect(await openMask.evaluate((button) => button.matches(":focus"))).toBe(true);
    await openMask.click();
    await page.getByRole("button", { name: "Clear" }).click();
    await page.keyboard.press("Escape");
    expect(await openMask.textContent()).toBe("Edit mask");
    await openMask.click();
    await page.getByRole("button", { name: "Undo" }).click();
    await page.getByRole("button", { name: "Use this mask" }).click();
    await page.getByRole("button", { name: "Mask", exact: true }).waitFor();
  });

  test("pictures are chosen, reordered and removed; a fourth one is refused", async () => {
    const { page } = await open(server.url);
    await page.setInputFiles("#files", [CAT, ROCKET]);
    const names = () => page.locator("#pictures .name").allTextContents();
    await expect.poll(names).toEqual(["cat.jpg", "rocket.jpg"]);
    await page.getByRole("button", { name: "Move rocket.jpg forward" }).click();
    expect(await names()).toEqual(["rocket.jpg", "cat.jpg"]);
    await give(page, "drop", [CAT, ROCKET]);
    await page.getByText("An edit takes at most 3 pictures").waitFor();
    expect(await names()).toEqual(["rocket.jpg", "cat.jpg", "cat.jpg"]);
    await page.getByRole("button", { name: "Remove rocket.jpg" }).click();
    expect(await names()).toEqual(["cat.jpg", "cat.jpg"]);
    await fill(page, SMALL);
    await page.click("#submit");
    await result(page);
    expect((await download(page)).bytes.equals(await ran([CAT, CAT], SMALL, folder))).toBe(true);
  });

  test("a text that is dropped or pasted stays a text", async () => {
    const { page } = await open(server.url);
    const isTaken = (kind: string) =>
      page.evaluate((name) => {
        // biome-ignore lint/suspicious/noExplicitAny: the tests are compiled without the types of browsers
        const { document, DataTransfer, ClipboardEvent, DragEvent, File } = globalThis as any;
        const transfer = new DataTransfer();
        transfer.setData("text/plain", "make it winter");
        if (name === "paste") transfer.items.add(new File(["a"], "text.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true, clipboardData: transfer, dataTransfer: transfer };
        const event = name === "paste" ? new ClipboardEvent(name, options) : new DragEvent(name, options);
        return !document.getElementById("prompt").dispatchEvent(event);
      }, kind);
    expect([await isTaken("dragover"), await isTaken("drop"), await isTaken("paste")]).toEqual([false, false, false]);
    expect(await page.locator("#pictures li").count()).toBe(0);
  });

  test("pictures that are too large for a request are refused before they are sent", async () => {
    const own = await startServer({ folder: join(folder.path, "small"), args: ["--max-body", "20K"] });
    const { page, expectClean } = await open(own.url);
    await give(page, "drop", [CAT]);
    await fill(page, SMALL);
    await page.click("#submit");
    await page.getByText(/^Cannot send the pictures: they take 0.05\d* MB, the server accepts 0.02 MB$/).waitFor();
    expectClean();
    await own.stop();
  });

  test("an earlier edit is shown with its recipe, loaded into the form, made again and edited further", async () => {
    const parameters = { ...SMALL, prompt: "make it colder", sampler: "heun" };
    const { id } = await sendJob(server.url, formOf([CAT], parameters));
    await endOf(server.url, id);
    const { page, expectClean } = await open(server.url);
    await page.getByRole("button", { name: /make it colder/ }).click();
    await result(page);
    await page.getByText("How it was made").click();
    expect(await page.locator("#view dl").textContent()).toContain("Seed7");
    await page.getByText("Whole recipe").click();
    await expect.poll(() => page.locator("#view pre").textContent()).toContain('"recipe": 1');
    await page.getByRole("button", { name: "Load settings" }).click();
    await expect.poll(() => page.locator("#pictures .name").allTextContents()).toEqual(["cat.jpg"]);
    expect(await page.inputValue("#prompt")).toBe("make it colder");
    expect(await page.inputValue("#seed")).toBe("7");
    expect(await page.locator("#others li span").allTextContents()).toEqual(["sampler: heun"]);
    await page.click("#submit");
    await expect.poll(() => idOf(page)).not.toBe(id);
    await endOf(server.url, idOf(page));
    await result(page);
    expect((await contentOf(server.url, idOf(page))).equals(await contentOf(server.url, id))).toBe(true);
    await page.getByRole("button", { name: "Again with another seed" }).click();
    const same = idOf(page);
    await expect.poll(() => idOf(page)).not.toBe(same);
    const again = await endOf(server.url, idOf(page));
    expect(again.parameters).toEqual({ ...parameters, seed: "random" });
    expect(again.result!.seed).not.toBe("7");
    await result(page);
    await page.getByRole("button", { name: "Edit this further" }).click();
    await expect.poll(() => page.locator("#pictures .name").allTextContents()).toEqual(["cat-edit.png"]);
    expectClean();
  });

  test("a reload goes on with the edit that runs, its pictures and settings", async () => {
    const { page, expectClean } = await open(server.url);
    await give(page, "drop", [CAT]);
    await fill(page, { ...LONG, steps: "30" });
    await page.click("#submit");
    await page.locator(".preview.live").waitFor({ timeout: PATIENCE });
    await page.reload();
    await page.locator(".preview.live").waitFor({ timeout: PATIENCE });
    await result(page);
    expect(await page.inputValue("#prompt")).toBe(LONG.prompt);
    expect(await page.locator("#pictures .name").allTextContents()).toEqual(["cat.jpg"]);
    expectClean();
  });

  test("an edit goes on after the server was killed and started again", async () => {
    const own = temporaryFolder();
    const first = await startServer({ folder: own.path });
    const { page } = await open(first.url);
    await give(page, "drop", [CAT]);
    await fill(page, LONG);
    await page.click("#submit");
    await page.locator(".preview.live").waitFor({ timeout: PATIENCE });
    await first.stop("SIGKILL");
    await page.getByText("Not connected, trying again").waitFor();
    // Sent while the server is away: it arrives once.
    await fill(page, SMALL);
    await page.click("#submit");
    const second = await startServer({ folder: own.path, args: ["--http", first.url.replace("http://", "")] });
    await page.locator("#history li", { hasText: LONG.prompt }).waitFor({ timeout: PATIENCE });
    await page.locator("#history li", { hasText: SMALL.prompt }).waitFor({ timeout: PATIENCE });
    expect(await page.locator("#history li").count()).toBe(2);
    await result(page);
    await second.stop();
  });

  test("the key of the server is asked for, and again when it is wrong", async () => {
    const own = await startServer({ folder: join(folder.path, "key"), args: ["--api-key", "sesame"] });
    const { page, expectClean } = await open(own.url);
    const dialog = page.getByRole("dialog", { name: "API key" });
    await dialog.waitFor();
    expect(await barriers(page)).toEqual([]);
    await page.fill("#key", "wrong");
    await page.keyboard.press("Enter");
    await dialog.getByText("The API key is wrong").waitFor();
    await page.fill("#key", "sesame");
    await page.keyboard.press("Enter");
    await page.getByText("Ready on cpu").waitFor();
    await give(page, "drop", [CAT]);
    await fill(page, SMALL);
    await page.click("#submit");
    await result(page);
    await page.locator("#history canvas").waitFor();
    await page.reload();
    await result(page);
    expect(await dialog.count()).toBe(0);
    expectClean([401]);
    await own.stop();
  });

  describe.each(["light", "dark"] as const)("in %s colours", (colorScheme) => {
    test.each([1360, 360])("a page of %i pixels has no barriers", async (width) => {
      const viewport = { width, height: 800 };
      const { page } = await open(server.url, { colorScheme, viewport, reducedMotion: "reduce" });
      expect(await barriers(page)).toEqual([]);
      await give(page, "drop", [CAT, ROCKET]);
      await fill(page, { ...SMALL, prompt: `${"long ".repeat(40)}${"word".repeat(40)}` });
      await page.click("#submit");
      await page.locator(".working, .compare").first().waitFor();
      expect(await barriers(page)).toEqual([]);
      await result(page);
      await page.getByText("How it was made").click();
      expect(await barriers(page)).toEqual([]);
      await page.fill("#steps", "none");
      await page.click("#submit");
      await page.locator("#problem p").first().waitFor();
      expect(await barriers(page)).toEqual([]);
    });
  });
});

/** An image of the page, whose types Node has not. */
interface HTMLImage {
  readonly style: { readonly clipPath: string };
}

// What a mask has at three places, read by the browser; and whether it has any grey.
function painted(page: Page, png: Buffer): Promise<Readonly<Record<string, boolean>>> {
  return page.evaluate(async (data) => {
    // biome-ignore lint/suspicious/noExplicitAny: the tests are compiled without the types of browsers
    const { OffscreenCanvas, createImageBitmap } = globalThis as any;
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data: pixels } = context.getImageData(0, 0, bitmap.width, bitmap.height) as { data: Uint8Array };
    const at = (x: number, y: number) =>
      pixels[4 * (Math.floor(y * bitmap.height) * bitmap.width + Math.floor(x * bitmap.width))] === 255;
    return {
      left: at(0.25, 0.5),
      erased: at(0.75, 0.5),
      corner: at(0.02, 0.02),
      isGrey: pixels.some((value) => value !== 0 && value !== 255),
    };
  }, png.toString("base64"));
}
