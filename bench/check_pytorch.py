"""Compares the plain PyTorch networks of bench:gpu with the outputs of diffusers and transformers for the tiny checkpoints (fixtures/tiny/golden).

check_pytorch.py, with torch alone; seconds. Prints the errors; exits with 1 if one exceeds its tolerance.
"""

import sys
from pathlib import Path

import torch
from torch.nn.functional import pad

from pytorch_networks.errors import relative_errors
from pytorch_networks.text_encoder import hidden_states, image_embeds
from pytorch_networks.transformer import velocity
from pytorch_networks.vae import latent, picture
from pytorch_networks.weights import Checkpoint, Weights

# float32 sums in another order; the VAE of two channels a level divides by small norms.
TOLERANCE = 2e-5
TINY = Path(__file__).resolve().parent.parent / "fixtures/tiny"


@torch.inference_mode()
def main():
    failed = False
    for network, cases in {"VAE encoder": encoder, "VAE decoder": decoder, "vision tower": vision, "language model": language, "transformer": transformer}.items():
        for case, found, wanted in cases():
            errors = relative_errors(found, wanted)
            failed = failed or None in errors.values() or max(errors.values()) > TOLERANCE
            print(f"{network}, {case}: {text(errors['rms'])} root mean square, {text(errors['largest'])} largest")
    return 1 if failed else 0


def text(error):
    return "not a number" if error is None else f"{error:.1e}"


def opened(name):
    """A tiny network and the outputs of its reference."""
    return Weights(Checkpoint(TINY / f"{name}.safetensors"), "cpu", torch.float32, is_kept=True), Checkpoint(TINY / f"golden/{name}.safetensors").read


def encoder():
    for file in ["vae", "vae-fp32", "vae-other"]:
        weights, golden = opened(file)
        for size in ["40x56", "64x48"]:
            yield f"{file} {size}", latent(weights, {"image": (golden(f"{size}.pixels") + 1) / 2}), golden(f"{size}.mean")


def decoder():
    for file in ["vae", "vae-fp32", "vae-other"]:
        weights, golden = opened(file)
        for size in ["40x56", "64x48"]:
            yield f"{file} {size}", picture(weights, {"latent": golden(f"{size}.latent")}), golden(f"{size}.image")


def vision():
    weights, golden = opened("text-encoder")
    inputs = Checkpoint(TINY / "golden/vision-inputs.safetensors").read
    config = weights.config["vision_config"]
    half = config["hidden_size"] // config["num_heads"] // 2
    for size in ["8x12", "12x20", "10x6"]:
        rows, columns = map(int, size.split("x"))
        places = torch.stack([raster(torch.arange(rows)[:, None].expand(rows, columns)), raster(torch.arange(columns).expand(rows, columns))])
        angles = torch.cat([place[:, None] * 10000.0 ** -(torch.arange(0, half, 2) / half) for place in places], -1)
        window = places // 8
        is_seen = (window[:, :, None] == window[:, None]).all(0)
        mask = torch.zeros(is_seen.shape).masked_fill(~is_seen, -torch.inf)
        feeds = {"pixel_values": inputs(f"{size}.pixel_values"), "rope_cos": angles.cos()[None], "rope_sin": angles.sin()[None], "window_mask": mask[None, None]}
        yield size, image_embeds(weights, feeds), golden(f"{size}.image_embeds")


def raster(places):
    """Places of patches in their order: the four of a merged token together."""
    rows, columns = places.shape
    return places.reshape(rows // 2, 2, columns // 2, 2).transpose(1, 2).flatten()


def language():
    weights, golden = opened("text-encoder")
    rope = weights.config["text_config"]["rope_parameters"]
    axes = [axis for axis, count in enumerate(rope["mrope_section"]) for _ in range(count)]
    rates = rope["rope_theta"] ** -(torch.arange(len(axes)) / len(axes))
    for images in ["images0", "images1", "images2", "images3"]:
        angles = golden(f"{images}.position_ids")[axes].T * rates
        feeds = {"inputs_embeds": golden(f"{images}.inputs_embeds"), "rope_cos": angles.cos()[None], "rope_sin": angles.sin()[None]}
        yield images, hidden_states(weights, feeds), golden(f"{images}.hidden")


def transformer():
    for file in ["transformer", "transformer-fp32", "transformer-scaled-fp8"]:
        weights, golden = opened(file)
        for case, references in {"refs0": 0, "refs1": 1, "refs2": 2, "odd": 2}.items():
            packed = [tokens(golden(f"{case}.{name}")) for name in ["latent", *(f"reference_{index + 1}" for index in range(references))]]
            feeds = {
                "latent_tokens": packed[0],
                "reference_tokens": torch.cat([packed[0][:, :0], *packed[1:]], 1),
                "prompt_embeds": golden(f"{case}.prompt_embeds"),
                "timestep": golden(f"{case}.timestep"),
                "rope_cos": golden(f"{case}.rope_cos")[None],
                "rope_sin": golden(f"{case}.rope_sin")[None],
            }
            yield f"{file} {case}", picture_of(velocity(weights, feeds), golden(f"{case}.velocity").shape), golden(f"{case}.velocity")


def tokens(image):
    """2 x 2 pixels a token [1, tokens, 64]; odd sides wrap around."""
    height, width = image.shape[-2:]
    image = pad(image, (0, width % 2, 0, height % 2), mode="circular")
    return image.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def picture_of(found, shape):
    rows, columns = (shape[2] + 1) // 2, (shape[3] + 1) // 2
    image = found.reshape(1, rows, columns, shape[1], 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(1, shape[1], 2 * rows, 2 * columns)
    return image[:, :, : shape[2], : shape[3]]


if __name__ == "__main__":
    sys.exit(main())
