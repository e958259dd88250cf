"""The errors of smaller types: networks of full width with random weights in PyTorch on a CPU, compared with float32. In bfloat16
and float16 every operator's result is rounded; in TF32 both sides of a linear's product are, to 10 bits, as CUDA multiplies float32.

rounding.py [--deep], with diffusers and transformers, prints a line of Markdown each: two layers in ten minutes; with --deep as many as the
published networks have, fewer tokens, and weights of its own for every layer, in the types that CUDA computes them in.
"""

import sys

import torch
import torch.nn.functional as F

LAYERS = 2
DEEP = {"transformer": 60, "language model": 28, "vision tower": 32}
FULL_ATTENTION_BLOCKS = [7, 15, 23, 31]
# Tokens along a side of the transformer's pictures, and of text.
SIDE = 8
DEEP_SIDE = 4
TEXT = 32
PIXELS = 64
# Values between the places where the matrices of a deep network begin, a prime, and how many such places there are.
STRIDE = 314_159
PLACES = 64
# Bits of a float32 that TF32 does not have.
TF32_CUT = 13


@torch.no_grad()
def main():
    is_deep = sys.argv[1:] == ["--deep"]
    networks = {"transformer": transformer, "language model": language, "vision tower": vision}
    if not is_deep:
        networks |= {"VAE encoder": vae_encoder, "VAE decoder": vae_decoder}
    print("| network | layers | type | largest error | root mean square error |\n|---|---:|---|---:|---:|")
    for name, make in networks.items():
        torch.manual_seed(0)
        depth = DEEP.get(name, LAYERS) if is_deep else LAYERS
        model, run = make(depth) if name in DEEP else make()
        # The weights themselves are stored in 16 bits or fewer: what is measured is the arithmetic.
        model.to(torch.bfloat16).to(torch.float32)
        exact = run(model, torch.float32)
        start = f"| {name} | {depth if name in DEEP else 'all'} |"
        if not (is_deep and name == "transformer"):
            compare(start, "TF32", with_tf32(model, run), exact)
        for dtype in (torch.bfloat16,) if is_deep else (torch.bfloat16, torch.float16):
            compare(start, str(dtype)[6:], run(model.to(dtype), dtype).float(), exact)
            model.to(torch.float32)


def compare(start, kind, found, exact):
    error = found - exact
    largest, mean = error.abs().max() / exact.abs().max(), error.square().mean().sqrt() / exact.square().mean().sqrt()
    print(f"{start} {kind} | {largest:.1e} | {mean:.1e} |", flush=True)


def with_tf32(model, run):
    linear, convolutions = F.linear, {name: getattr(F, name) for name in ("conv2d", "conv3d")}
    F.linear = lambda x, weight, bias=None: linear(tf32(x), tf32(weight), bias)
    for name, function in convolutions.items():
        setattr(F, name, lambda x, weight, *rest, function=function, **named: function(tf32(x), tf32(weight), *rest, **named))
    try:
        return run(model, torch.float32)
    finally:
        F.linear = linear
        for name, function in convolutions.items():
            setattr(F, name, function)


def tf32(x):
    half = 1 << (TF32_CUT - 1)
    return ((x.view(torch.int32) + half) & -(1 << TF32_CUT)).view(torch.float32)


class Numbers:
    """Normal numbers that keep the variance of what they multiply, as many as a matrix wants and from whichever place on. They are kept."""

    def __init__(self):
        self.kept = {}

    def matrix(self, parameter, place):
        inner = parameter[0].numel()
        key = (inner, parameter.dtype)
        wanted = parameter.numel() + PLACES * STRIDE
        if key not in self.kept or self.kept[key].numel() < wanted:
            self.kept[key] = (torch.randn(wanted, generator=torch.Generator().manual_seed(inner)) * inner**-0.5).to(torch.bfloat16).to(parameter.dtype)
        start = place % PLACES * STRIDE
        return self.kept[key][start : start + parameter.numel()].view(parameter.shape)


class Layer(torch.nn.Module):
    """One of many layers that share a module: before it runs, the module's matrices become its own."""

    def __init__(self, layer, index, numbers):
        super().__init__()
        self.layer, self.index, self.numbers = layer, index, numbers

    def forward(self, *inputs, **named):
        matrices = [parameter for parameter in self.layer.parameters() if parameter.ndim > 1]
        for place, parameter in enumerate(matrices):
            parameter.data = self.numbers.matrix(parameter, self.index * len(matrices) + place)
        return self.layer(*inputs, **named)


def repeated(layers, depth):
    """Two layers, or as many as asked for over one module."""
    if depth == LAYERS:
        return layers
    numbers = Numbers()
    return torch.nn.ModuleList(Layer(layers[0], index, numbers) for index in range(depth))


def language(depth):
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    sizes = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4, num_hidden_layers=LAYERS)
    rope = dict(rope_type="default", rope_theta=1000000.0, mrope_section=[16, 24, 24])
    config = Qwen2_5_VLTextConfig(vocab_size=8, rope_parameters=rope, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    model = spread(Qwen2_5_VLTextModel._from_config(config).eval())
    model.layers = repeated(model.layers, depth)
    model.config.layer_types = ["full_attention"] * depth
    embeddings = torch.randn(1, TEXT, 3584)
    positions = torch.arange(TEXT).expand(3, 1, TEXT)
    return model, lambda model, dtype: model(inputs_embeds=embeddings.to(dtype), position_ids=positions, use_cache=False).last_hidden_state


def vision(depth):
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    sizes = dict(hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584, window_size=112)
    full = FULL_ATTENTION_BLOCKS if depth > LAYERS else [1]
    model = spread(Qwen2_5_VisionTransformerPretrainedModel._from_config(Qwen2_5_VLVisionConfig(depth=LAYERS, fullatt_block_indexes=full, **sizes)).eval())
    model.blocks = repeated(model.blocks, depth)
    pixels, grid = torch.randn(12 * 16, 1176), torch.tensor([[1, 12, 16]])
    return model, lambda model, dtype: model(pixels.to(dtype), grid_thw=grid).pooler_output


def transformer(depth):
    from diffusers import QwenImageTransformer2DModel

    model = spread(QwenImageTransformer2DModel(num_layers=LAYERS).eval())
    model.transformer_blocks = repeated(model.transformer_blocks, depth)
    side = SIDE if depth == LAYERS else DEEP_SIDE
    image, prompt = torch.randn(1, 2 * side * side, 64), torch.randn(1, TEXT, 3584)

    def run(model, dtype):
        shapes = [[(1, side, side), (1, side, side)]]
        inputs = dict(hidden_states=image.to(dtype), encoder_hidden_states=prompt.to(dtype), timestep=torch.tensor([0.75]).to(dtype))
        return model(**inputs, img_shapes=shapes, return_dict=False)[0]

    return model, run


def vae_encoder():
    from diffusers import AutoencoderKLQwenImage

    image = torch.rand(1, 3, 1, PIXELS, PIXELS) * 2 - 1
    return spread(AutoencoderKLQwenImage().eval()), lambda model, dtype: model.encode(image.to(dtype)).latent_dist.mode()


def vae_decoder():
    from diffusers import AutoencoderKLQwenImage

    latent = torch.randn(1, 16, 1, PIXELS // 8, PIXELS // 8)
    return spread(AutoencoderKLQwenImage().eval()), lambda model, dtype: model.decode(latent.to(dtype), return_dict=False)[0]


def spread(model):
    """Weights that keep the variance of what they multiply."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter[0].numel() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


if __name__ == "__main__":
    main()
