"""The Qwen-Image VAE in plain PyTorch for one frame, under its published (Wan 2.1) names. Needs torch alone.

Compared with diffusers by check_pytorch.py. Causal convolutions over time get two frames of zeros, then the picture.
"""

import torch
import torch.nn.functional as F

FRAMES_BEFORE = 2


def latent(weights, feeds):
    """The encoder's mean [1, 16, h/8, w/8] in float32, of a picture in 0..1."""
    w = weights.under("encoder.")
    x = convolution((feeds["image"] * 2 - 1).to(weights.dtype)[:, :, None], w, "conv1", 1)
    x = head(layers(layers(x, w, "downsamples"), w, "middle"), w)
    x = convolution(x, weights.under("conv1."), "", 0)
    return x[:, : x.shape[1] // 2, 0].float()


def picture(weights, feeds):
    """The picture [1, 3, H, W] in -1..1, float32, of a latent."""
    w = weights.under("decoder.")
    x = convolution(feeds["latent"].to(weights.dtype)[:, :, None], weights.under("conv2."), "", 0)
    x = layers(convolution(x, w, "conv1", 1), w, "middle")
    return head(layers(x, w, "upsamples"), w)[:, :, 0].float().clamp(-1, 1)


def layers(x, w, name):
    count = 1 + max(int(key.split(".")[1]) for key in w if key.startswith(f"{name}."))
    for index in range(count):
        x = layer(x, w, f"{name}.{index}", name)
    return x


def layer(x, w, at, side):
    if f"{at}.residual.0.gamma" in w:
        y = convolution(F.silu(norm(x, w[f"{at}.residual.0.gamma"])), w, f"{at}.residual.2", 1)
        y = convolution(F.silu(norm(y, w[f"{at}.residual.3.gamma"])), w, f"{at}.residual.6", 1)
        return y + (convolution(x, w, f"{at}.shortcut", 0) if f"{at}.shortcut.weight" in w else x)
    if f"{at}.to_qkv.weight" in w:
        return x + attention(x, w, at)
    weight, bias, frame = w[f"{at}.resample.1.weight"], w[f"{at}.resample.1.bias"], x[:, :, 0]
    if side == "downsamples":
        return F.conv2d(F.pad(frame, (0, 1, 0, 1)), weight, bias, stride=2)[:, :, None]
    return F.conv2d(F.interpolate(frame, scale_factor=2, mode="nearest-exact"), weight, bias, padding=1)[:, :, None]


def attention(x, w, at):
    frame = x[:, :, 0]
    qkv = F.conv2d(norm(x, w[f"{at}.norm.gamma"])[:, :, 0], w[f"{at}.to_qkv.weight"], w[f"{at}.to_qkv.bias"])
    q, k, v = qkv.flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
    attended = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(frame.shape)
    return F.conv2d(attended, w[f"{at}.proj.weight"], w[f"{at}.proj.bias"])[:, :, None]


def head(x, w):
    return convolution(F.silu(norm(x, w["head.0.gamma"])), w, "head.2", 1)


def norm(x, gamma):
    return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * gamma.reshape(1, -1, 1, 1, 1)


def convolution(x, w, name, around):
    """A causal convolution over [1, channels, 1, height, width]."""
    prefix = f"{name}." if name else ""
    weight, bias = w[f"{prefix}weight"], w[f"{prefix}bias"]
    before = FRAMES_BEFORE if weight.shape[2] > 1 else 0
    return F.conv3d(F.pad(x, (around,) * 4 + (before, 0)), weight, bias)
