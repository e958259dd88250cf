"""The PyTorch side of prefix-cache.ts: steps of two blocks of diffusers' QwenImage21Transformer2DModel, with and without its cache.

    python prefix_cache.py FILE THREADS ROUNDS      torch, diffusers 0.42.1, safetensors
"""

import json
import sys
import time

import torch
from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache, QwenImage21Transformer2DModel
from safetensors.torch import load_file

SIDE, TEXT, PLACES = 32, 100, (10, 40)


@torch.no_grad()
def main(path, threads, rounds):
    torch.set_num_threads(int(threads))
    model = QwenImage21Transformer2DModel(num_layers=2).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    slots, mask, at = SIDE * SIDE // 4, [], 0
    for place in PLACES:
        mask += [False] * (place - at) + [True] * slots
        at = place
    mask += [False] * (TEXT - at) + [True] * slots
    inputs = dict(
        hidden_states=torch.randn(1, 3 * SIDE * SIDE, 64),
        encoder_hidden_states=torch.randn(1, TEXT + 2 * slots, 4096),
        timestep=torch.tensor([0.75]),
        img_shapes=[[(1, SIDE, SIDE)] * 3],
        img_mask=torch.tensor([mask]),
        return_dict=False,
    )
    cache = QwenImage21KVCache(2)
    model(**inputs, kv_cache=cache, kv_cache_mode="extract")
    cached = inputs | dict(kv_cache=cache, kv_cache_mode="cached")
    print(json.dumps({"without": seconds(model, inputs, int(rounds)), "with": seconds(model, cached, int(rounds))}))


def seconds(model, inputs, rounds):
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model(**inputs)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[rounds // 2]


if __name__ == "__main__":
    main(*sys.argv[1:])
