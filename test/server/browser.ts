// The page in a real Chromium, for tests.
import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, expect } from "vitest";

/** The installed Chromium; undefined if there is none. */
export const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

/** Milliseconds that a click or a look may take. */
const STEP = 10_000;

/** A page, and what went wrong in it. */
export interface OpenPage {
  readonly page: Page;
  /** Fails the test for requests to elsewhere, answers of 400 and above but those of `allowed`, and errors of scripts. */
  readonly expectClean: (allowed?: readonly number[]) => void;
}

/** A function that opens the page of a server in a context of its own; the browser ends with the tests of this file. */
export function browser(): (url: string, options?: BrowserContextOptions) => Promise<OpenPage> {
  let launched: Promise<Browser> | undefined;
  afterAll(async () => (await launched)?.close());
  return async (url, options = {}) => {
    launched ??= chromium.launch({ executablePath: CHROMIUM!, args: ["--no-sandbox"] });
    const context = await (await launched).newContext({ acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(STEP);
    const [elsewhere, refused, errors] = [[] as string[], [] as { status: number; url: string }[], [] as string[]];
    page.on("request", (request) => {
      if (![url, "blob:", "data:"].some((start) => request.url().startsWith(start))) elsewhere.push(request.url());
    });
    page.on("response", (response) => {
      if (response.status() >= 400) refused.push({ status: response.status(), url: response.url() });
    });
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      // Chromium itself reports answers of 400 and above, and connections that fail.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
        errors.push(message.text());
    });
    await page.goto(url);
    return {
      page,
      expectClean(allowed = []) {
        expect({ elsewhere, errors }).toEqual({ elsewhere: [], errors: [] });
        expect(refused.filter(({ status }) => !allowed.includes(status))).toEqual([]);
      },
    };
  };
}

/** Drops or pastes files onto the page. */
export async function give(page: Page, how: "drop" | "paste", paths: readonly string[]): Promise<void> {
  const files = paths.map((path) => ({ name: basename(path), data: readFileSync(path).toString("base64") }));
  await page.evaluate(giveInPage, { how, files });
}

// Runs in the page, which has what Node's types lack.
function giveInPage({ how, files }: { how: string; files: readonly { name: string; data: string }[] }): void {
  // biome-ignore lint/suspicious/noExplicitAny: the tests are compiled without the types of browsers
  const page = globalThis as any;
  const transfer = new page.DataTransfer();
  for (const { name, data } of files) {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    transfer.items.add(new page.File([bytes], name, { type: "image/jpeg" }));
  }
  const options = { bubbles: true, cancelable: true };
  if (how === "paste") {
    page.document.dispatchEvent(new page.ClipboardEvent("paste", { ...options, clipboardData: transfer }));
    return;
  }
  for (const kind of ["dragenter", "dragover", "drop"])
    page.document.body.dispatchEvent(new page.DragEvent(kind, { ...options, dataTransfer: transfer }));
}

/** What hinders people in the page as it is: controls without a name, images without a text, repeated ids, texts with too little contrast, a page that is wider than the window. */
export function barriers(page: Page): Promise<string[]> {
  return page.evaluate(barriersInPage);
}

function barriersInPage(): string[] {
  // biome-ignore lint/suspicious/noExplicitAny: the tests are compiled without the types of browsers
  const { document, getComputedStyle, innerWidth } = globalThis as any;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const all = (selector: string): any[] => [...document.querySelectorAll(selector)];
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const isShown = (element: any) => element.checkVisibility() && element.getClientRects().length > 0;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const textOf = (element: any): string =>
    [element.textContent, ...[...element.querySelectorAll("img")].map((image) => image.alt)].join("").trim();
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const nameOf = (element: any): string => {
    const named = element.getAttribute("aria-labelledby")?.split(" ") ?? [];
    const texts = [
      element.getAttribute("aria-label"),
      ...named.map((id: string) => document.getElementById(id)?.textContent),
      ...[...(element.labels ?? [])].map(textOf),
      element.matches("button, a, summary") ? textOf(element) : "",
    ];
    return texts.join("").trim();
  };
  const found: string[] = [];
  for (const element of all("button, a, input, select, textarea, summary, dialog[open], [role=application], progress"))
    if (isShown(element) && nameOf(element) === "") found.push(`no name: ${element.outerHTML.slice(0, 120)}`);
  for (const image of all("img")) if (image.getAttribute("alt") === null) found.push(`no text: ${image.outerHTML}`);
  const ids = all("[id]").map(({ id }) => id);
  for (const id of new Set(ids.filter((each, index) => ids.indexOf(each) !== index))) found.push(`id twice: ${id}`);
  if (document.documentElement.scrollWidth > innerWidth)
    found.push(`${document.documentElement.scrollWidth} pixels wide in a window of ${innerWidth}`);
  // https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
  const channels = (colour: string) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const light = (colour: string) => {
    const [r, g, b] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const ground = (element: any): string => {
    const colour = getComputedStyle(element).backgroundColor;
    const [, , , alpha = 1] = channels(colour);
    return alpha === 1 || element.parentElement === null ? colour : ground(element.parentElement);
  };
  for (const element of all("body *")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== "");
    // Over pictures, or not to be used now.
    if (!isText || !isShown(element) || element.matches(".tag, :disabled, .unseen *, option, .skip")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
  }
  return found;
}
