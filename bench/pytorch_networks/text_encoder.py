"""The two towers of Qwen2.5-VL in plain PyTorch, under their published names. Needs torch alone.

Compared with transformers by check_pytorch.py. Rotary tables and window masks come from qedit's feeds.
"""

import torch
import torch.nn.functional as F

from .transformer import EPSILON, linear

# Default for a checkpoint without a config: the published model.
LANGUAGE_HEAD = 128
VISION_HEADS = 16
FULL_ATTENTION_BLOCKS = [7, 15, 23, 31]


def hidden_states(weights, feeds):
    """The language model's last hidden states after its final norm, [1, tokens, width] in float32."""
    x = feeds["inputs_embeds"][0].to(weights.dtype)
    rope = tables(feeds, weights.dtype)
    config = weights.config.get("text_config", {})
    width = weights.shape("model.layers.0.self_attn.q_proj.weight")[0]
    head = width // config["num_attention_heads"] if "num_attention_heads" in config else LANGUAGE_HEAD
    for index in range(weights.count("model.layers.")):
        x = decoder_layer(x, weights.under(f"model.layers.{index}."), rope, head)
    return norm(x, weights.under("model.norm.")["weight"]).float()[None]


def decoder_layer(x, w, rope, head):
    y = norm(x, w["input_layernorm.weight"])
    q, k, v = (linear(y, w, f"self_attn.{name}_proj").unflatten(-1, (-1, head)).transpose(0, 1) for name in "qkv")
    q, k = turned(q, rope), turned(k, rope)
    shared = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
    attended = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    x = x + linear(attended.transpose(0, 1).flatten(1), w, "self_attn.o_proj")
    return x + feed_forward(norm(x, w["post_attention_layernorm.weight"]), w)


def image_embeds(weights, feeds):
    """The vision tower's output for one picture, [tokens, width of the language model] in float32."""
    x, dtype = feeds["pixel_values"].to(weights.dtype), weights.dtype
    rope, mask = tables(feeds, dtype), feeds["window_mask"].to(dtype)
    config = weights.config.get("vision_config", {})
    heads, full = config.get("num_heads", VISION_HEADS), config.get("fullatt_block_indexes", FULL_ATTENTION_BLOCKS)
    x = x @ weights.under("visual.patch_embed.proj.")["weight"].flatten(1).T
    for index in range(weights.count("visual.blocks.")):
        x = vision_block(x, weights.under(f"visual.blocks.{index}."), rope, heads, None if index in full else mask)
    w = weights.under("visual.merger.")
    merged = norm(x, w["ln_q.weight"]).reshape(-1, w["mlp.0.weight"].shape[1])
    return linear(F.gelu(linear(merged, w, "mlp.0")), w, "mlp.2").float()


def vision_block(x, w, rope, heads, mask):
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(0, 1) for each in linear(norm(x, w["norm1.weight"]), w, "attn.qkv").chunk(3, -1))
    attended = F.scaled_dot_product_attention(turned(q, rope)[None], turned(k, rope)[None], v[None], attn_mask=mask)[0]
    x = x + linear(attended.transpose(0, 1).flatten(1), w, "attn.proj")
    return x + feed_forward(norm(x, w["norm2.weight"]), w)


def feed_forward(x, w):
    return linear(F.silu(linear(x, w, "mlp.gate_proj")) * linear(x, w, "mlp.up_proj"), w, "mlp.down_proj")


def norm(x, weight):
    return F.rms_norm(x, x.shape[-1:], weight, EPSILON)


def tables(feeds, dtype):
    """Cosines and sines [tokens, head], each half alike."""
    return tuple(torch.cat([feeds[name][0]] * 2, -1).to(dtype) for name in ("rope_cos", "rope_sin"))


def turned(x, rope):
    """x [heads, tokens, head] with its pairs (i, i + half) turned."""
    cos, sin = rope
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin
