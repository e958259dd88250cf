// Decodes HEIC (libheif) and JPEG XL (libjxl) in WebAssembly, in a thread of its own: it answers one message and ends. Both packages are optional, and
// libheif writes to the console, which is not the main thread's here.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { parentPort, workerData } from "node:worker_threads";
import type { Decoded, Task } from "./foreign-decoder.js";

const { format, bytes } = workerData as Task;
const decoded = await (format === "HEIC" ? decodeHeic() : decodeJxl());
parentPort!.postMessage(decoded, [decoded.rgba.buffer as ArrayBuffer]);

async function decodeHeic(): Promise<Decoded> {
  const { default: libheif } = await import("libheif-js/wasm-bundle.js");
  await libheif.ready;
  const pictures = new libheif.HeifDecoder().decode(bytes);
  const picture = pictures.find((each) => each.is_primary()) ?? pictures[0];
  if (picture === undefined) throw new Error("it holds no picture that can be decoded");
  const [width, height] = [picture.get_width(), picture.get_height()];
  const rgba = new Uint8ClampedArray(width * height * 4);
  await new Promise<void>((resolve, reject) =>
    picture.display({ data: rgba, width, height }, (shown) =>
      shown ? resolve() : reject(new Error("the file is damaged or incomplete")),
    ),
  );
  return { width, height, rgba: new Uint8Array(rgba.buffer) };
}

async function decodeJxl(): Promise<Decoded> {
  const { init } = await import("@jsquash/jxl/decode.js");
  const path = createRequire(import.meta.url).resolve("@jsquash/jxl/codec/dec/jxl_dec.wasm");
  // A browser has this class; the decoder makes its result by it.
  const scope = globalThis as { ImageData?: unknown };
  scope.ImageData ??= class {
    constructor(
      readonly data: Uint8ClampedArray,
      readonly width: number,
      readonly height: number,
    ) {}
  };
  const decoder = await init(await WebAssembly.compile(await readFile(path)));
  const picture = decoder.decode(bytes);
  if (picture === null) throw new Error("the file is damaged or incomplete");
  const { width, height, data } = picture;
  return { width, height, rgba: Uint8Array.from(data) };
}
