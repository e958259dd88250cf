"""The Qwen-Image transformer in plain PyTorch, under its published names. Needs torch alone.

Compared with diffusers by check_pytorch.py. Rotary tables and tokens, in their order, come from qedit's feeds.
"""

import math

import torch
import torch.nn.functional as F

EPSILON = 1e-6


def velocity(weights, feeds, block=None):
    """One evaluation, [1, target, 64] in float32; `block` may be a compiled block."""
    block = block or transformer_block
    dtype = weights.dtype
    feed = {name: feeds[name].to(dtype) for name in ("latent_tokens", "reference_tokens", "prompt_embeds", "rope_cos", "rope_sin")}
    target = feed["latent_tokens"].shape[1]
    temb = F.silu(timestep_embedding(weights.under("time_text_embed.timestep_embedder."), feeds["timestep"], dtype))
    img = linear(torch.cat([feed["latent_tokens"], feed["reference_tokens"]], 1)[0], weights.under("img_in."))
    prompt = feed["prompt_embeds"][0]
    txt = linear(F.rms_norm(prompt, prompt.shape[-1:], weights.under("txt_norm.")["weight"], EPSILON), weights.under("txt_in."))
    cos, sin = feed["rope_cos"][0][:, None], feed["rope_sin"][0][:, None]
    for index in range(weights.count("transformer_blocks.")):
        w = weights.under(f"transformer_blocks.{index}.")
        txt, img = block(txt, img, temb, cos, sin, w, heads_of(weights))
    scale, shift = linear(temb, weights.under("norm_out.linear.")).chunk(2, -1)
    out = F.layer_norm(img[:target], img.shape[-1:], eps=EPSILON) * (1 + scale) + shift
    return linear(out, weights.under("proj_out.")).float()[None]


def heads_of(weights):
    head = weights.shape("transformer_blocks.0.attn.norm_q.weight")[0]
    return weights.shape("img_in.weight")[0] // head


def linear(x, weights, name=""):
    """A linear of a part, or without a name the part itself."""
    prefix = f"{name}." if name else ""
    return F.linear(x, weights[f"{prefix}weight"], weights.get(f"{prefix}bias"))


def timestep_embedding(w, timestep, dtype):
    half = w["linear_1.weight"].shape[1] // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=timestep.device) / half)
    # In this order, as diffusers: angles reach 1000, where another rounding of them shows.
    angles = 1000 * (timestep[:, None] * frequencies)
    sinusoids = torch.cat([angles.cos(), angles.sin()], -1).to(dtype)
    return linear(F.silu(linear(sinusoids, w, "linear_1")), w, "linear_2")


def transformer_block(txt, img, temb, cos, sin, w, heads):
    txt_attn, txt_mlp = modulation(temb, w, "txt_mod.1")
    img_attn, img_mlp = modulation(temb, w, "img_mod.1")
    t, i = modulate(txt, txt_attn), modulate(img, img_attn)
    q, k, v = (
        torch.cat([a, b])
        for a, b in zip(
            queries(t, w, heads, ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], ["attn.norm_added_q", "attn.norm_added_k"]),
            queries(i, w, heads, ["attn.to_q", "attn.to_k", "attn.to_v"], ["attn.norm_q", "attn.norm_k"]),
        )
    )
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    attended = F.scaled_dot_product_attention(*(each.transpose(0, 1)[None] for each in (q, k, v)))[0].transpose(0, 1).flatten(1)
    txt = txt + txt_attn[2] * linear(attended[: txt.shape[0]], w, "attn.to_add_out")
    img = img + img_attn[2] * linear(attended[txt.shape[0] :], w, "attn.to_out.0")
    txt = txt + txt_mlp[2] * feed_forward(modulate(txt, txt_mlp), w, "txt_mlp")
    img = img + img_mlp[2] * feed_forward(modulate(img, img_mlp), w, "img_mlp")
    return txt, img


def modulation(temb, w, name):
    shift1, scale1, gate1, shift2, scale2, gate2 = linear(temb, w, name).chunk(6, -1)
    return (shift1, scale1, gate1), (shift2, scale2, gate2)


def modulate(x, modulation):
    shift, scale, _ = modulation
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale) + shift


def queries(x, w, heads, projections, norms):
    q, k, v = (linear(x, w, name).unflatten(-1, (heads, -1)) for name in projections)
    q, k = (F.rms_norm(each, each.shape[-1:], w[f"{norm}.weight"], EPSILON) for each, norm in zip((q, k), norms))
    return q, k, v


def rotate(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def feed_forward(x, w, name):
    return linear(F.gelu(linear(x, w, f"{name}.net.0.proj"), approximate="tanh"), w, f"{name}.net.2")
