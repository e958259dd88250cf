// The dialog in which a mask is painted over picture 1, by pointer or keyboard.

import { maskSize } from "./mask-size.js";
import { found } from "./page-elements.js";

interface Point {
  readonly x: number;
  readonly y: number;
}

/** A line of the brush; in pixels of the mask. */
interface Stroke {
  readonly points: Point[];
  readonly radius: number;
  readonly erases: boolean;
}

/** Colour of the paint on the screen; in the file it is white. */
const PAINT = "#ff3b6b";

/** Most height of the picture. */
const TALLEST = "60vh";

/** Arrow keys, as directions. */
const DIRECTIONS: Readonly<Record<string, Point>> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/** A picture to paint over. */
interface Painted {
  readonly url: string;
  readonly file: File;
  readonly mask?: { readonly url: string } | undefined;
}

/**
 * A function that lets the user paint: the mask as a PNG, white where the edit belongs; "none" if nothing is painted, undefined if it was cancelled.
 * Rejects if the browser cannot show the picture.
 */
export function maskBrush(): (picture: Painted) => Promise<File | "none" | undefined> {
  const dialog = found("mask-dialog", HTMLDialogElement);
  const picture = found("mask-picture", HTMLImageElement);
  const stack = found("mask-stack", HTMLDivElement);
  const canvas = found("mask-canvas", HTMLCanvasElement);
  const surface = paintedSurface(canvas);
  const brush = brushOn(canvas, surface);
  let answer: ((mask: boolean) => void) | undefined;
  const close = (isDone: boolean) => {
    answer?.(isDone);
    answer = undefined;
    dialog.close();
  };
  found("mask-done", HTMLButtonElement).addEventListener("click", () => close(true));
  found("mask-cancel", HTMLButtonElement).addEventListener("click", () => close(false));
  found("mask-undo", HTMLButtonElement).addEventListener("click", surface.undo);
  found("mask-clear", HTMLButtonElement).addEventListener("click", surface.clear);
  dialog.addEventListener("close", () => close(false));
  return async ({ url, file, mask }) => {
    picture.src = url;
    picture.alt = file.name;
    await picture.decode();
    stack.style.maxWidth = `calc(${TALLEST} * ${picture.naturalWidth / picture.naturalHeight})`;
    const { width, height } = maskSize({ width: picture.naturalWidth, height: picture.naturalHeight });
    await surface.open({ width, height }, mask?.url);
    dialog.showModal();
    brush.center();
    const isDone = await new Promise<boolean>((resolve) => (answer = resolve));
    const result = isDone ? await surface.file(maskName(file.name)) : undefined;
    picture.removeAttribute("src");
    surface.release();
    return result;
  };
}

/** What is painted: strokes over the mask that was there before. */
interface Surface {
  readonly open: (size: { width: number; height: number }, mask: string | undefined) => Promise<void>;
  readonly add: (stroke: Stroke) => void;
  /** Draws what was added to the last stroke. */
  readonly extend: (point: Point) => void;
  readonly undo: () => void;
  readonly clear: () => void;
  /** The mask as a PNG; "none" if nothing is painted. */
  readonly file: (name: string) => Promise<File | "none">;
  readonly release: () => void;
}

function paintedSurface(canvas: HTMLCanvasElement): Surface {
  const context = canvas.getContext("2d")!;
  let before: HTMLCanvasElement | undefined;
  let strokes: Stroke[] = [];
  const redraw = () => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (before) context.drawImage(before, 0, 0);
    for (const stroke of strokes) draw(context, stroke);
  };
  return {
    async open({ width, height }, mask) {
      [canvas.width, canvas.height] = [width, height];
      strokes = [];
      before = mask === undefined ? undefined : await paintOf(mask, { width, height });
      redraw();
    },
    add(stroke) {
      strokes.push(stroke);
      draw(context, stroke);
    },
    extend(point) {
      const { points, radius, erases } = strokes.at(-1)!;
      points.push(point);
      draw(context, { points: points.slice(-2), radius, erases });
    },
    undo() {
      if (strokes.pop() === undefined) before = undefined;
      redraw();
    },
    clear() {
      [before, strokes] = [undefined, []];
      redraw();
    },
    file: (name) => maskFile(canvas, name),
    release() {
      [before, strokes] = [undefined, []];
      [canvas.width, canvas.height] = [1, 1];
    },
  };
}

// Moves the brush by pointer and keyboard.
function brushOn(canvas: HTMLCanvasElement, surface: Surface): { readonly center: () => void } {
  const size = found("brush-size", HTMLInputElement);
  const erase = found("brush-erase", HTMLInputElement);
  const cursor = found("mask-cursor", HTMLDivElement);
  const status = found("mask-status", HTMLParagraphElement);
  let at: Point = { x: 0, y: 0 };
  const radius = () => Math.max(1, (Number(size.value) / 200) * Math.min(canvas.width, canvas.height));
  const stroke = (points: Point[]): Stroke => ({ points, radius: radius(), erases: erase.checked });
  const showCursor = () => {
    const box = canvas.getBoundingClientRect();
    const scale = box.width / canvas.width;
    cursor.style.width = cursor.style.height = `${radius() * 2 * scale}px`;
    cursor.style.transform = `translate(${at.x * scale}px, ${at.y * scale}px) translate(-50%, -50%)`;
  };
  const pointOf = ({ clientX, clientY }: MouseEvent): Point => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    return { x: x * canvas.width, y: y * canvas.height };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    at = pointOf(event);
    surface.add(stroke([at]));
    showCursor();
  });
  canvas.addEventListener("pointermove", (event) => {
    at = pointOf(event);
    showCursor();
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length > 0 ? between : [event]) surface.extend(pointOf(each));
  });
  found("mask-stack", HTMLDivElement).addEventListener("keydown", (event) => {
    const direction = DIRECTIONS[event.key];
    if (direction === undefined && event.key !== " ") return;
    event.preventDefault();
    const from = at;
    const step = event.altKey ? 1 : Math.max(1, radius());
    const inside = (value: number, most: number) => Math.min(most, Math.max(0, value));
    if (direction)
      at = { x: inside(at.x + direction.x * step, canvas.width), y: inside(at.y + direction.y * step, canvas.height) };
    if (event.key === " " || event.shiftKey) surface.add(stroke([from, at]));
    showCursor();
    const share = (value: number, most: number) => `${Math.round((value / most) * 100)} %`;
    const what = event.key === " " ? (erase.checked ? "Erased at " : "Painted at ") : "";
    status.textContent = `${what}${share(at.x, canvas.width)} from the left, ${share(at.y, canvas.height)} from the top`;
  });
  size.addEventListener("input", showCursor);
  window.addEventListener("resize", showCursor);
  return {
    center() {
      at = { x: canvas.width / 2, y: canvas.height / 2 };
      showCursor();
    },
  };
}

function draw(context: CanvasRenderingContext2D, { points, radius, erases }: Stroke): void {
  const [first, ...rest] = points;
  if (first === undefined) return;
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  [context.strokeStyle, context.fillStyle] = [PAINT, PAINT];
  [context.lineWidth, context.lineCap, context.lineJoin] = [radius * 2, "round", "round"];
  // A line of no length draws nothing.
  context.beginPath();
  context.arc(first.x, first.y, radius, 0, 2 * Math.PI);
  context.fill();
  context.beginPath();
  context.moveTo(first.x, first.y);
  for (const { x, y } of rest) context.lineTo(x, y);
  context.stroke();
  context.globalCompositeOperation = "source-over";
}

// A mask's file as paint: its brightness is how much there is.
async function paintOf(url: string, { width, height }: { width: number; height: number }): Promise<HTMLCanvasElement> {
  const mask = new Image();
  mask.src = url;
  await mask.decode();
  const paint = document.createElement("canvas");
  [paint.width, paint.height] = [width, height];
  const context = paint.getContext("2d")!;
  context.drawImage(mask, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let index = 0; index < pixels.data.length; index += 4) pixels.data[index + 3] = pixels.data[index]!;
  context.putImageData(pixels, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = PAINT;
  context.fillRect(0, 0, width, height);
  return paint;
}

// White where there is paint, black elsewhere: nothing between, so that what is shown is what is meant.
async function maskFile(canvas: HTMLCanvasElement, name: string): Promise<File | "none"> {
  const { width, height } = canvas;
  const context = canvas.getContext("2d")!;
  const pixels = context.getImageData(0, 0, width, height);
  let isPainted = false;
  for (let index = 0; index < pixels.data.length; index += 4) {
    const value = pixels.data[index + 3]! >= 128 ? 255 : 0;
    isPainted ||= value > 0;
    pixels.data.fill(value, index, index + 3);
    pixels.data[index + 3] = 255;
  }
  if (!isPainted) return "none";
  context.putImageData(pixels, 0, 0);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/png"));
  if (blob === null) throw new Error("The browser cannot write the mask");
  return new File([blob], name, { type: "image/png" });
}

function maskName(name: string): string {
  return `${name.replace(/\.[^.]{1,5}$/, "")}-mask.png`;
}
