// Edits pictures with a model that `qedit export triton` wrote: one request to Triton, or to `qedit serve`, is one edit.
//   npm install sharp @huggingface/tokenizers
//   node triton-edit.mjs http://127.0.0.1:8000 repository/ "make it winter" edited.png photo.jpg seed=42 steps=4
// repository/ has qedit.json and tokenizer.json of the exported folder, for qedit too; negative=TEXT cfg=2.5 need guidance.
import { createCipheriv, createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Tokenizer } from "@huggingface/tokenizers";
import sharp from "sharp";

/** The size with sides in multiples that best keeps the aspect near an area. */
function bestSize({ width, height }, area, { multiple, aspect_weight: weight }) {
  const [aspect, cells] = [Math.max(width, height) / Math.min(width, height), area / multiple ** 2];
  const longs = Array.from({ length: Math.max(Math.sqrt(cells * aspect) * 2, 1) }, (_, i) => i + 1);
  const pairs = longs.flatMap((long) => [0, 1].map((more) => [long, Math.max(Math.floor(long / aspect) + more, 1)]));
  const cost = ([a, b]) => weight * Math.abs(Math.log(a / b / aspect)) + Math.abs(Math.log((a * b) / cells));
  const [[long, short]] = pairs.sort((one, other) => cost(one) - cost(other));
  return (height > width ? [short, long] : [long, short]).map((side) => side * multiple);
}

/** Bytes of a picture at a size; of another shape, its centre. Where it shrinks, sharp's Lanczos is nearly qedit's. */
function fitted({ data, width, height }, [w, h], mostStretch = Infinity) {
  const fit = Math.abs(Math.log(width / height / (w / h))) > mostStretch ? "cover" : "fill";
  const picture = sharp(data, { raw: { width, height, channels: 3 } });
  return picture.resize({ width: w, height: h, fit, kernel: "lanczos3" }).raw().toBuffer();
}

/** What the vision tower reads of a picture: blocks of merge x merge patches, in each channel, frame, y, x; and its grid. */
async function patches(picture, { patch, temporal, merge, area, mean, std }) {
  const scale = Math.sqrt(area / (picture.width * picture.height)) / (patch * merge);
  const size = [picture.width, picture.height].map((side) => Math.max(Math.round(side * scale), 1) * patch * merge);
  const [pixels, columns, rows] = [await fitted(picture, size), size[0] / patch, size[1] / patch];
  const width = 3 * temporal * patch ** 2;
  const values = new Float32Array(rows * columns * width);
  for (let row = 0, at = 0; row < rows * columns; row++) {
    const [block, inner] = [Math.floor(row / merge ** 2), row % merge ** 2];
    const top = Math.floor(block / (columns / merge)) * merge + Math.floor(inner / merge);
    const left = (block % (columns / merge)) * merge + (inner % merge);
    for (let i = 0; i < width; i++) {
      const channel = Math.floor(i / (temporal * patch ** 2));
      const [y, x] = [top * patch + (Math.floor(i / patch) % patch), left * patch + (i % patch)];
      values[at++] = (pixels[(y * size[0] + x) * 3 + channel] / 255 - mean[channel]) / std[channel];
    }
  }
  return { values, width, grid: [1, rows, columns] };
}

/** Normal numbers of a seed: a cipher's stream by Box and Muller. qedit's own noise is torch.randn's. */
function normal(seed, length) {
  const key = createHash("sha256").update(String(seed)).digest();
  const stream = createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(8 * length));
  const uniform = (i) => (stream.readUInt32LE(4 * i) + 0.5) / 2 ** 32;
  const radius = (i) => Math.sqrt(-2 * Math.log(uniform(2 * i)));
  return Float32Array.from({ length }, (_, i) => radius(i) * Math.cos(2 * Math.PI * uniform(2 * i + 1)));
}

/** The tensors of an edit: name, datatype, shape, data. */
export async function editInputs(pictures, prompt, settings, { tokenizer, negative, seed = 0, ...given }) {
  const { prompt: texts, sizes, sigmas, vision } = settings;
  if (vision.area === undefined) throw new Error("this client is for Qwen-Image-Edit: take triton_edit.py");
  const { steps = sigmas.steps, megapixels = sizes.megapixels, cfg = settings.cfg } = given;
  const targets = pictures.map((picture) => bestSize(picture, megapixels * sizes.megapixel, sizes));
  const images = await Promise.all(targets.map((size, i) => fitted(pictures[i], size, sizes.most_stretch)));
  const seen = await Promise.all(pictures.map((picture) => patches(picture, vision)));
  const placeholders = pictures.map((_, index) => texts.picture.replace("{n}", index + 1)).join("");
  const ids = (name, words) => {
    const text = texts.template.replace("{pictures}", () => placeholders).replace("{prompt}", () => words);
    const { ids: all } = tokenizer.encode(text, { add_special_tokens: false });
    const read = all.includes(texts.end) ? all.slice(0, all.indexOf(texts.end)) : all;
    const counts = seen.map(({ grid }) => (grid[1] * grid[2]) / vision.merge ** 2);
    const tokens = read.flatMap((id) => Array((id === texts.image_pad && counts.shift()) || 1).fill(BigInt(id)));
    return [name, "INT64", [1, tokens.length], BigInt64Array.from(tokens)];
  };
  const values = Float32Array.from(seen.flatMap((each) => Array.from(each.values)));
  const latent = [1, settings.noise.shape[1], targets[0][1] / sizes.cell, targets[0][0] / sizes.cell];
  const times = Array.from({ length: steps + 1 }, (_, i) => (1000 - Math.floor((i * 1000) / steps)) / 1000);
  const levels = times.map((time) => (sigmas.shift * time) / (1 + (sigmas.shift - 1) * time));
  const guided = [ids("negative_input_ids", negative ?? ""), ["cfg", "FP32", [1], Float32Array.of(cfg)]];
  return [
    ...targets.map(([width, height], i) => [`image_${i + 1}`, "UINT8", [height, width, 3], images[i]]),
    ids("input_ids", prompt),
    ["pixel_values", "FP32", [values.length / seen[0].width, seen[0].width], values],
    ["image_grid_thw", "INT64", [seen.length, 3], BigInt64Array.from(seen.flatMap(({ grid }) => grid.map(BigInt)))],
    ["noise", "FP32", latent, normal(seed, latent[1] * latent[2] * latent[3])],
    ["sigmas", "FP32", [steps + 1], Float32Array.from(levels)],
    ...(negative === undefined ? [] : guided),
  ];
}

/** One inference over HTTP with binary tensors; gives bytes and shape of its output. */
async function infer(url, model, tensors) {
  const size = ({ byteLength }) => ({ binary_data_size: byteLength });
  const inputs = tensors.map(([name, datatype, shape, data]) => ({ name, datatype, shape, parameters: size(data) }));
  const header = JSON.stringify({ inputs, parameters: { binary_data_output: true } });
  const headers = { "Inference-Header-Content-Length": header.length, "Accept-Encoding": "identity" };
  const body = new Blob([header, ...tensors.map(([, , , data]) => data)]);
  const answer = await fetch(`${url}/v2/models/${model}/infer`, { method: "POST", headers, body });
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`${answer.status}: ${bytes}`);
  const length = Number(answer.headers.get("Inference-Header-Content-Length"));
  return { bytes: bytes.subarray(length), shape: JSON.parse(bytes.subarray(0, length)).outputs[0].shape };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url, folder, prompt, output, ...rest] = process.argv.slice(2);
  const json = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
  const [settings, tokenizer] = [json("qedit.json"), new Tokenizer(json("tokenizer.json"), {})];
  const words = rest.map((word) => /^(seed|steps|megapixels|cfg|negative)=(.*)$/s.exec(word));
  const given = words.filter(Boolean).map(([, name, value]) => [name, name === "negative" ? value : Number(value)]);
  const paths = rest.filter((_, i) => words[i] === null);
  const pictures = paths.map((path) => {
    const picture = sharp(path).rotate().toColourspace("srgb").removeAlpha().raw();
    return picture.toBuffer({ resolveWithObject: true }).then(({ data, info }) => ({ ...info, data }));
  });
  const options = { tokenizer, ...Object.fromEntries(given) };
  const inputs = await editInputs(await Promise.all(pictures), prompt, settings, options);
  const { bytes, shape } = await infer(url, `qedit_${paths.length}${"negative" in options ? "_cfg" : ""}`, inputs);
  await sharp(bytes, { raw: { width: shape[1], height: shape[0], channels: 3 } }).toFile(output);
}
