"""What 16 bits cost: networks of full width with random weights in PyTorch, every operator's result rounded to bfloat16 or float16,
against float32 with the same weights. Prints a line of Markdown each. rounding.py, with diffusers and transformers; minutes on a CPU.
"""

import torch

LAYERS = 2
SIDE = 8
TEXT = 32
PIXELS = 64


@torch.inference_mode()
def main():
    torch.manual_seed(0)
    print("| network | type | largest error | root mean square error |\n|---|---|---:|---:|")
    for name, make in {"language model": language, "transformer": transformer, "VAE encoder": vae_encoder, "VAE decoder": vae_decoder}.items():
        model, run = make()
        # The weights themselves are stored in 16 bits or fewer: what is measured is the arithmetic.
        model.to(torch.bfloat16).to(torch.float32)
        exact = run(model, torch.float32)
        for dtype in (torch.bfloat16, torch.float16):
            rounded = run(model.to(dtype), dtype).float()
            error = rounded - exact
            largest, mean = error.abs().max() / exact.abs().max(), error.square().mean().sqrt() / exact.square().mean().sqrt()
            print(f"| {name} | {str(dtype)[6:]} | {largest:.1e} | {mean:.1e} |", flush=True)
            model.to(torch.float32)


def language():
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    sizes = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4, num_hidden_layers=LAYERS)
    rope = dict(rope_type="default", rope_theta=1000000.0, mrope_section=[16, 24, 24])
    config = Qwen2_5_VLTextConfig(vocab_size=8, rope_parameters=rope, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    model = spread(Qwen2_5_VLTextModel._from_config(config).eval())
    embeddings = torch.randn(1, TEXT, 3584)
    positions = torch.arange(TEXT).expand(3, 1, TEXT)
    return model, lambda model, dtype: model(inputs_embeds=embeddings.to(dtype), position_ids=positions, use_cache=False).last_hidden_state


def transformer():
    from diffusers import QwenImageTransformer2DModel

    model = spread(QwenImageTransformer2DModel(num_layers=LAYERS).eval())
    image, prompt = torch.randn(1, 2 * SIDE * SIDE, 64), torch.randn(1, TEXT, 3584)

    def run(model, dtype):
        shapes = [[(1, SIDE, SIDE), (1, SIDE, SIDE)]]
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
