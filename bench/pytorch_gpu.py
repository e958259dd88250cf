"""The other side of bench/gpu.ts: the same networks in PyTorch, over the same weights and the same inputs.

pytorch_gpu.py REQUEST, a JSON object: device, dtype, seconds (what this may take), checkpoint (of the transformer), dumps (of
{references: file} with what qedit was fed and gave), pixels, matrix, compile. Prints a line of JSON for each result as it comes.
The transformer is written out here and needs torch alone; the VAE is diffusers', and is left out where that is not installed.
"""

import importlib.util
import json
import math
import mmap
import struct
import sys
import time

import torch
import torch.nn.functional as F

TYPES = {
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BF16": torch.bfloat16, "F16": torch.float16,
    "F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}
EPSILON = 1e-6
RUNS = 5
# A compilation takes about this long; without so much time left there is none.
COMPILE_SECONDS = 60


def main():
    request = json.loads(sys.argv[1])
    start = time.perf_counter()
    request["left"] = lambda: request["seconds"] - (time.perf_counter() - start)
    request["dtype"] = getattr(torch, request["dtype"])
    with torch.inference_mode():
        emit("versions", torch=torch.__version__, cuda=torch.version.cuda)
        emit("matrix", flops=matrix_rate(request))
        transformer(request)
        vae(request)


def emit(kind, **facts):
    print(json.dumps({"kind": kind, **facts}), flush=True)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(request, run):
    """Seconds of the first run and the median of the others, and the peak of the allocator."""
    device = request["device"]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(RUNS + 1):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = {"peakBytes": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
    return {"first": seconds[0], "median": sorted(seconds[1:])[RUNS // 2], "all": seconds, **peak}


def matrix_rate(request):
    n = request["matrix"]
    a = torch.randn(n, n, device=request["device"], dtype=request["dtype"])
    b = torch.randn(n, n, device=request["device"], dtype=request["dtype"])
    return 2 * n**3 / measure(request, lambda: F.linear(a, b))["median"]


def read_safetensors(path):
    """Tensors of a file in place, by name, and its metadata."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=8 + length + begin) if end > begin else torch.empty(0, dtype=torch.uint8)
        # A view needs an aligned start, which the format does not promise.
        tensors[name] = (raw, TYPES[entry["dtype"]], entry["shape"])
    return tensors, metadata


def tensor_of(stored, device, dtype):
    raw, stored_as, shape = stored
    return raw.to(device).clone().view(stored_as).reshape(shape).to(dtype)


def transformer(request):
    device, dtype = request["device"], request["dtype"]
    stored, metadata = read_safetensors(request["checkpoint"])
    config = json.loads(metadata.get("config", "{}"))
    start = time.perf_counter()
    try:
        weights = {name: tensor_of(each, device, dtype) for name, each in stored.items()}
    except torch.OutOfMemoryError:
        emit("note", text="the transformer's weights do not fit in this type: not measured in PyTorch")
        return
    synchronize(device)
    emit("transformer-load", seconds=time.perf_counter() - start)
    blocks = [block_weights(weights, index) for index in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks.")))]
    heads = weights["img_in.weight"].shape[0] // config.get("attention_head_dim", weights["transformer_blocks.0.attn.norm_q.weight"].shape[0])
    ways = {"eager": block}
    if request["compile"]:
        ways["compiled"] = torch.compile(block)
    for way, function in ways.items():
        for references, dump in request["dumps"].items():
            # Each number of references is another shape, and compiled anew.
            if request["left"]() < (COMPILE_SECONDS if way == "compiled" else 10):
                emit("note", text=f"no time left for {references} references, {way}")
                continue
            feeds = {name: tensor_of(each, device, torch.float32) for name, each in read_safetensors(dump)[0].items()}
            run = lambda: velocity(weights, blocks, feeds, heads=heads, dtype=dtype, block=function)
            try:
                result = run()
                error = ((result - feeds["velocity"]).abs().max() / result.abs().max()).item()
                emit("transformer", references=int(references), way=way, error=error, **measure(request, run))
            except Exception as exception:  # a compiler that does not work here must not cost the rest
                emit("note", text=f"{way} with {references} references failed: {str(exception).splitlines()[0][:200]}")


def block_weights(weights, index):
    prefix = f"transformer_blocks.{index}."
    return {name[len(prefix) :]: weight for name, weight in weights.items() if name.startswith(prefix)}


def linear(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def velocity(weights, blocks, feeds, *, heads, dtype, block):
    """One evaluation, [1, target, 64] in float32."""
    feed = {name: value.to(dtype) for name, value in feeds.items() if name not in ("timestep", "velocity")}
    target = feed["latent_tokens"].shape[1]
    temb = F.silu(timestep_embedding(weights, feeds["timestep"], dtype))
    img = linear(torch.cat([feed["latent_tokens"], feed["reference_tokens"]], 1)[0], weights, "img_in")
    txt = linear(F.rms_norm(feed["prompt_embeds"][0], feed["prompt_embeds"].shape[-1:], weights["txt_norm.weight"], EPSILON), weights, "txt_in")
    cos, sin = feed["rope_cos"][0][:, None], feed["rope_sin"][0][:, None]
    for each in blocks:
        txt, img = block(txt, img, temb, cos, sin, each, heads)
    scale, shift = linear(temb, weights, "norm_out.linear").chunk(2, -1)
    out = F.layer_norm(img[:target], img.shape[-1:], eps=EPSILON) * (1 + scale) + shift
    return linear(out, weights, "proj_out").float()[None]


def timestep_embedding(weights, timestep, dtype):
    embedder = "time_text_embed.timestep_embedder"
    half = weights[f"{embedder}.linear_1.weight"].shape[1] // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=timestep.device) / half)
    angles = timestep[:, None] * 1000 * frequencies
    sinusoids = torch.cat([angles.cos(), angles.sin()], -1).to(dtype)
    return linear(F.silu(linear(sinusoids, weights, f"{embedder}.linear_1")), weights, f"{embedder}.linear_2")


def block(txt, img, temb, cos, sin, w, heads):
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


def vae(request):
    if importlib.util.find_spec("diffusers") is None:
        emit("note", text="diffusers is not installed: the VAE is not measured in PyTorch")
        return
    from diffusers import AutoencoderKLQwenImage

    device, dtype, pixels = request["device"], request["dtype"], request["pixels"]
    model = AutoencoderKLQwenImage().eval().to(device, dtype)
    image = torch.randn(1, 3, 1, pixels, pixels, device=device, dtype=dtype)
    latent = torch.randn(1, 16, 1, pixels // 8, pixels // 8, device=device, dtype=dtype)
    runs = {"vae-encode": lambda: model.encode(image).latent_dist.mode(), "vae-decode": lambda: model.decode(latent, return_dict=False)}
    for name, run in runs.items():
        if request["left"]() > 0:
            emit(name, **measure(request, run))


if __name__ == "__main__":
    main()
