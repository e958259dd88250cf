"""The PyTorch side of bench:cpu: the same networks and sizes in PyTorch float32, from diffusers and transformers.

pytorch.py NETWORK THREADS answers each command on stdin with a line of JSON: open, run, peak (see peer.ts). Weights are random:
speed does not depend on them. All shapes here are repeated in networks.ts.
"""

import json
import resource
import sys
import time

import torch

LAYERS = 2
SIDE = 32
PROMPT_TOKENS = 200
PATCHES = 28
LANGUAGE_TOKENS = 300


def main():
    name, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    with torch.inference_mode():
        run = NETWORKS[name]()
        for line in sys.stdin:
            print(json.dumps(ANSWERS[line.strip()](run)), flush=True)


def timed(run):
    start, processor = time.perf_counter(), time.process_time()
    run()
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}


ANSWERS = {
    "open": lambda run: {},
    "run": timed,
    "peak": lambda run: {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
}


def transformer():
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(num_layers=LAYERS).eval()
    inputs = dict(
        hidden_states=torch.randn(1, 2 * SIDE * SIDE, 64),
        encoder_hidden_states=torch.randn(1, PROMPT_TOKENS, 3584),
        timestep=torch.tensor([0.75]),
        img_shapes=[[(1, SIDE, SIDE), (1, SIDE, SIDE)]],
        return_dict=False,
    )
    return lambda: model(**inputs)


def vae_encoder(side):
    from diffusers import AutoencoderKLQwenImage

    model = AutoencoderKLQwenImage().eval()
    image = torch.randn(1, 3, 1, side, side)
    return lambda: model.encode(image).latent_dist.mode()


def vae_decoder(side):
    from diffusers import AutoencoderKLQwenImage

    model = AutoencoderKLQwenImage().eval()
    latent = torch.randn(1, 16, 1, side // 8, side // 8)
    return lambda: model.decode(latent, return_dict=False)


def vision():
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    # Of the two blocks, one attends in windows and one over the whole picture.
    sizes = dict(hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584, window_size=112)
    config = Qwen2_5_VLVisionConfig(depth=LAYERS, fullatt_block_indexes=[1], **sizes)
    model = Qwen2_5_VisionTransformerPretrainedModel._from_config(config).eval()
    pixels = torch.randn(PATCHES * PATCHES, 1176)
    grid = torch.tensor([[1, PATCHES, PATCHES]])
    return lambda: model(pixels, grid_thw=grid)


def language():
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    sizes = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4)
    rope = dict(rope_type="default", rope_theta=1000000.0, mrope_section=[16, 24, 24])
    # Without a vocabulary: the embeddings are given.
    config = Qwen2_5_VLTextConfig(
        vocab_size=8, num_hidden_layers=LAYERS, rope_parameters=rope, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes
    )
    model = Qwen2_5_VLTextModel._from_config(config).eval()
    embeddings = torch.randn(1, LANGUAGE_TOKENS, 3584)
    positions = torch.arange(LANGUAGE_TOKENS).expand(3, 1, LANGUAGE_TOKENS)
    return lambda: model(inputs_embeds=embeddings, position_ids=positions, use_cache=False)


NETWORKS = {
    "transformer-2": transformer,
    "blocks-2": transformer,
    "stored-blocks-2": transformer,
    "vae-encode-512": lambda: vae_encoder(512),
    "vae-encode-1024": lambda: vae_encoder(1024),
    "vae-decode-512": lambda: vae_decoder(512),
    "vae-decode-1024": lambda: vae_decoder(1024),
    "vision-2": vision,
    "language-2": language,
}

if __name__ == "__main__":
    main()
