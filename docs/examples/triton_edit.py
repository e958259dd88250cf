"""Edits pictures with a model that `qedit export triton` wrote: one request to Triton, or to `qedit serve`, is one edit.

    pip install "tritonclient[grpc]" tokenizers numpy pillow
    python triton_edit.py 127.0.0.1:8001 repository/ "make it winter" edited.png photo.jpg seed=42 steps=4

repository/ has qedit.json and tokenizer.json of the exported folder, for qedit too; negative=TEXT cfg=2.5 need guidance.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

KINDS = {"seed": int, "steps": int, "megapixels": float, "negative": str, "cfg": float}
DATATYPES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}

def best_size(width, height, area, sizes):
    """The size with sides in multiples that best keeps the aspect near an area."""
    multiple, aspect, weight = sizes["multiple"], max(width, height) / min(width, height), sizes["aspect_weight"]
    longs = range(multiple, int(max(math.sqrt(area * aspect) * 2, multiple)) + 1, multiple)
    pairs = [(long, max(int(long / aspect) // multiple + more, 1) * multiple) for long in longs for more in (0, 1)]
    costs = [weight * abs(math.log(a / b / aspect)) + abs(math.log(a * b / area)) for a, b in pairs]
    long, short = pairs[costs.index(min(costs))]
    return (short, long) if height > width else (long, short)


def fitted(picture, size, sizes):
    """The picture at a size; of another shape, its centre. Pillow's Lanczos is qedit's."""
    (width, height), aspect = picture.size, size[0] / size[1]
    if abs(math.log(width / height / aspect)) > sizes["most_stretch"]:
        w, h = min(width, max(round(height * aspect), 1)), min(height, max(round(width / aspect), 1))
        left, top = (width - w) // 2, (height - h) // 2
        picture = picture.crop((left, top, left + w, top + h))
    return picture.convert("RGBA"[: sizes["channels"]]).resize(size, Image.LANCZOS)


def patches(picture, vision):
    """What the vision tower reads of a picture, at its size or at an area: blocks of merge x merge patches; and its grid."""
    patch, temporal, merge = vision["patch"], vision["temporal"], vision["merge"]
    scale = math.sqrt(vision["area"] / math.prod(picture.size)) if "area" in vision else 1
    size = [max(round(side * scale / (patch * merge)), 1) * patch * merge for side in picture.size]
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.LANCZOS), np.float32) / np.float32(255)
    pixels = (pixels - np.float32(vision["mean"])) / np.float32(vision["std"])
    rows, columns = size[1] // patch, size[0] // patch
    blocks = pixels.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
    blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, patch, patch)
    return np.repeat(blocks, temporal, axis=2).reshape(rows * columns, -1), [1, rows, columns]


def token_ids(tokenizer, prompt, seen, settings):
    """The tokens of a prompt in its template, with as many placeholders for each picture as it has vision tokens."""
    texts = settings["prompt"]
    pictures = texts["between"].join(texts["picture"].replace("{n}", str(index + 1)) for index in range(len(seen)))
    text = texts["template"].replace("{pictures}", pictures).replace("{prompt}", prompt or texts["empty"])
    counts = [rows * columns // settings["vision"]["merge"] ** 2 for _, (_, rows, columns) in seen]
    ids = []
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        if token == texts["end"]:
            break
        ids += [token] * (counts.pop(0) if token == texts["image_pad"] and counts else 1)
    return np.array([ids], np.int64)


def randn(seed, shape):
    """qedit's noise of a seed, torch.randn's: the Mersenne Twister's numbers by Box and Muller, in blocks of 16."""
    bits = np.random.RandomState(seed % 2**32).randint(0, 2**32, math.prod(shape), np.uint32)
    uniform = ((bits & 0xFFFFFF) / 2**24).reshape(-1, 16)
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[:, :8])), 2 * np.pi * uniform[:, 8:]
    return np.hstack([radius * np.cos(angle), radius * np.sin(angle)]).reshape(shape).astype(np.float32)


def edit_inputs(pictures, prompt, settings, tokenizer, *, negative=None, seed=0, steps=None, megapixels=None, cfg=None):
    """The tensors of an edit, by their names; without a picture, of a prompt alone."""
    sizes, vision, sigmas = settings["sizes"], settings["vision"], settings["sigmas"]
    area = (megapixels or sizes["megapixels"]) * sizes["megapixel"]
    references = [fitted(each, best_size(*each.size, area, sizes), sizes) for each in pictures]
    white = [Image.alpha_composite(Image.new("RGBA", each.size, "white"), each.convert("RGBA")) for each in references]
    seen = [patches(each, vision) for each in (pictures if "area" in vision else white)]
    width, height = references[0].size if references else best_size(1, 1, area, sizes)
    shape = (1, settings["noise"]["shape"][1], height // sizes["cell"], width // sizes["cell"])
    count, shift = steps or sigmas["steps"], sigmas["shift"]
    formula = [shift * t / (1 + (shift - 1) * t) for t in ((1000 - i * 1000 // count) / 1000 for i in range(count))] + [0]
    levels = formula if steps else sigmas.get("levels", formula)
    inputs = {f"image_{index + 1}": np.asarray(each, np.uint8) for index, each in enumerate(references)}
    inputs["input_ids"] = token_ids(tokenizer, prompt, seen, settings)
    if seen:
        rows, grids = zip(*seen)
        inputs |= {"pixel_values": np.concatenate(rows), "image_grid_thw": np.array(grids, np.int64)}
    inputs |= {"noise": randn(seed, shape), "sigmas": np.array(levels, np.float32)}
    if (negative is not None and not (cfg := cfg or settings.get("cfg"))) or (cfg and negative is None):
        raise SystemExit("guidance takes negative=TEXT and cfg=NUMBER")
    if cfg:
        ids = token_ids(tokenizer, negative, seen, settings)
        inputs |= {"negative_input_ids": ids, "cfg": np.array([cfg], np.float32)}
    return inputs


def main(address, folder, prompt, output, *rest):
    from tokenizers import Tokenizer
    from tritonclient.grpc import InferenceServerClient, InferInput
    settings = json.loads(Path(folder, "qedit.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_file(str(Path(folder, settings["prompt"]["tokenizer"])))
    pairs = (each.split("=", 1) for each in rest if each.split("=")[0] in KINDS)
    given = {name: KINDS[name](value) for name, value in pairs}
    paths = [each for each in rest if each.split("=")[0] not in KINDS]
    pictures = [ImageOps.exif_transpose(Image.open(path)) for path in paths]
    arrays = edit_inputs(pictures, prompt, settings, tokenizer, **given)
    tensors = [InferInput(name, list(each.shape), DATATYPES[each.dtype.name]) for name, each in arrays.items()]
    for tensor in tensors:
        tensor.set_data_from_numpy(arrays[tensor.name()])
    model = f"qedit_{len(pictures)}" + ("_cfg" if "negative" in given else "")
    Image.fromarray(InferenceServerClient(address).infer(model, tensors).as_numpy("image")).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
