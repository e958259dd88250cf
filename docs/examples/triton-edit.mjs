// Edits pictures with a model that `qedit export triton` wrote and Triton serves: one request is one edit.
//
//   npm install sharp @huggingface/tokenizers
//   node triton-edit.mjs http://127.0.0.1:8000 repository/ "make it winter" edited.png photo.jpg
//
// repository/ has qedit.json and tokenizer.json of the exported folder; STEPS and MEGAPIXELS are variables.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Tokenizer } from "@huggingface/tokenizers";
import sharp from "sharp";

/** The size with sides in multiples that best keeps the aspect near an area. */
function bestSize({ width, height }, area, { multiple, aspect_weight: weight }) {
  const aspect = Math.max(width, height) / Math.min(width, height);
  let best = { cost: Infinity, size: [multiple, multiple] };
  for (let long = multiple; long <= Math.max(Math.sqrt(area * aspect) * 2, multiple); long += multiple)
    for (const more of [0, 1]) {
      const short = Math.max((Math.floor(long / aspect / multiple) + more) * multiple, multiple);
      const cost = weight * Math.abs(Math.log(long / short / aspect)) + Math.abs(Math.log((long * short) / area));
      if (cost < best.cost) best = { cost, size: height > width ? [short, long] : [long, short] };
    }
  return best.size;
}

/** Bytes of a picture at a size; of another shape, its centre. Where it shrinks, sharp's Lanczos is nearly qedit's. */
function fitted({ data, width, height }, size, mostStretch = Infinity) {
  const aspect = size[0] / size[1];
  const isCut = Math.abs(Math.log(width / height / aspect)) > mostStretch;
  const w = isCut ? Math.min(width, Math.max(Math.round(height * aspect), 1)) : width;
  const h = isCut ? Math.min(height, Math.max(Math.round(width / aspect), 1)) : height;
  const part = { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
  const picture = sharp(data, { raw: { width, height, channels: 3 } }).extract(part);
  return picture
    .resize(...size, { fit: "fill", kernel: "lanczos3" })
    .raw()
    .toBuffer();
}

/** What the vision tower reads of a picture: blocks of merge x merge patches, in each channel, frame, y, x; and its grid. */
async function patches(picture, { patch, temporal, merge, area, mean, std }) {
  const scale = Math.sqrt(area / (picture.width * picture.height)) / (patch * merge);
  const size = [picture.width, picture.height].map((side) => Math.max(Math.round(side * scale), 1) * patch * merge);
  const [pixels, columns, rows] = [await fitted(picture, size), size[0] / patch, size[1] / patch];
  const values = new Float32Array(rows * columns * 3 * temporal * patch ** 2);
  for (let row = 0, at = 0; row < rows * columns; row++) {
    const [block, inner] = [Math.floor(row / merge ** 2), row % merge ** 2];
    const top = Math.floor(block / (columns / merge)) * merge + Math.floor(inner / merge);
    const left = (block % (columns / merge)) * merge + (inner % merge);
    for (let i = 0; i < 3 * temporal * patch ** 2; i++) {
      const channel = Math.floor(i / (temporal * patch ** 2));
      const [y, x] = [top * patch + (Math.floor(i / patch) % patch), left * patch + (i % patch)];
      values[at++] = (pixels[(y * size[0] + x) * 3 + channel] / 255 - mean[channel]) / std[channel];
    }
  }
  return { values, grid: [1, rows, columns] };
}

/** The tensors of an edit: name, datatype, shape, data. */
export async function editInputs(pictures, prompt, settings, { tokenizer, steps, megapixels }) {
  const { prompt: texts, sizes, sigmas, vision } = settings;
  const targets = pictures.map((picture) => bestSize(picture, megapixels * sizes.megapixel, sizes));
  const images = await Promise.all(targets.map((size, i) => fitted(pictures[i], size, sizes.most_stretch)));
  const seen = await Promise.all(pictures.map((picture) => patches(picture, vision)));
  const placeholders = pictures.map((_, index) => texts.picture.replace("{n}", index + 1)).join("");
  const text = texts.template.replace("{pictures}", () => placeholders).replace("{prompt}", () => prompt);
  const { ids } = tokenizer.encode(text, { add_special_tokens: false });
  const read = ids.includes(texts.end) ? ids.slice(0, ids.indexOf(texts.end)) : ids;
  const counts = seen.map(({ grid }) => (grid[1] * grid[2]) / vision.merge ** 2);
  const tokens = read.flatMap((id) => Array((id === texts.image_pad && counts.shift()) || 1).fill(BigInt(id)));
  const rows = seen.reduce((sum, { grid }) => sum + grid[1] * grid[2], 0);
  const values = Float32Array.from(seen.flatMap((each) => Array.from(each.values)));
  const latent = [1, settings.noise.shape[1], targets[0][1] / sizes.cell, targets[0][0] / sizes.cell];
  // Box and Muller's normal numbers.
  const draw = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const noise = Float32Array.from({ length: latent.reduce((product, side) => product * side) }, draw);
  const times = Array.from({ length: steps }, (_, index) => (1000 - Math.floor((index * 1000) / steps)) / 1000);
  const levels = times.map((time) => (sigmas.shift * time) / (1 + (sigmas.shift - 1) * time));
  return [
    ...targets.map(([width, height], i) => [`image_${i + 1}`, "UINT8", [height, width, 3], images[i]]),
    ["input_ids", "INT64", [1, tokens.length], BigInt64Array.from(tokens)],
    ["pixel_values", "FP32", [rows, values.length / rows], values],
    ["image_grid_thw", "INT64", [seen.length, 3], BigInt64Array.from(seen.flatMap(({ grid }) => grid.map(BigInt)))],
    ["noise", "FP32", latent, noise],
    ["sigmas", "FP32", [steps + 1], Float32Array.of(...levels, 0)],
  ];
}

/** One inference over HTTP with binary tensors; gives bytes and shape of its output. */
async function infer(url, model, tensors) {
  const parts = tensors.map(([, , , { buffer, byteOffset, byteLength }]) =>
    Buffer.from(buffer, byteOffset, byteLength),
  );
  const size = (i) => ({ binary_data_size: parts[i].length });
  const inputs = tensors.map(([name, datatype, shape], i) => ({ name, datatype, shape, parameters: size(i) }));
  const header = Buffer.from(JSON.stringify({ inputs, parameters: { binary_data_output: true } }));
  const headers = { "Inference-Header-Content-Length": header.length, "Accept-Encoding": "identity" };
  const request = { method: "POST", headers, body: Buffer.concat([header, ...parts]) };
  const answer = await fetch(`${url}/v2/models/${model}/infer`, request);
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`${answer.status}: ${bytes}`);
  const length = Number(answer.headers.get("Inference-Header-Content-Length"));
  return { bytes: bytes.subarray(length), shape: JSON.parse(bytes.subarray(0, length)).outputs[0].shape };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url, folder, prompt, output, ...paths] = process.argv.slice(2);
  const json = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
  const [settings, tokenizer] = [json("qedit.json"), new Tokenizer(json("tokenizer.json"), {})];
  const steps = Number(process.env.STEPS ?? settings.sigmas.steps);
  const megapixels = Number(process.env.MEGAPIXELS ?? settings.sizes.megapixels);
  const decoded = paths.map(async (path) => {
    const picture = sharp(path).rotate().toColourspace("srgb").removeAlpha().raw();
    const { data, info } = await picture.toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  });
  const inputs = await editInputs(await Promise.all(decoded), prompt, settings, { tokenizer, steps, megapixels });
  const { bytes, shape } = await infer(url, `qedit_${paths.length}`, inputs);
  await sharp(bytes, { raw: { width: shape[1], height: shape[0], channels: 3 } }).toFile(output);
}
