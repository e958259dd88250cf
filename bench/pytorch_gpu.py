"""The PyTorch side of bench/gpu.ts: the same networks with the same weights and inputs. Needs torch alone.

pytorch_gpu.py REQUEST, a JSON object: device, seconds (what this may take), files (of models), results (a list of {network, kind,
references, compute, dump}, where dump holds qedit's feeds and outputs), matrix (rows of a square one, 0 for none), compile.
Prints a line of JSON for each result as it comes. Compares every result of qedit with float32 arithmetic here, and also
PyTorch's own result in qedit's compute type, which shows the smallest error to expect.
"""

import gc
import json
import sys
import time

import torch
import torch.nn.functional as F

from pytorch_networks import text_encoder, transformer, vae
from pytorch_networks.errors import relative_errors
from pytorch_networks.weights import Checkpoint, Weights

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
RUNS = 5
# A compilation takes about this long; without so much time left there is none.
COMPILE_SECONDS = 60
# One evaluation of the largest network in float32, without TF32, with its weights from the page cache.
EXACT_SECONDS = 45

# Of each kind of network: the file, the function, and the output of qedit's that it gives; pictures count in -1..1, so that their mean
# does not hide an error.
NETWORKS = {
    "transformer": ("transformer", transformer.velocity, lambda dump: dump["velocity"]),
    "vae-encode": ("vae", vae.latent, lambda dump: dump["latent"]),
    "vae-decode": ("vae", vae.picture, lambda dump: dump["image"] * 2 - 1),
    "vision": ("textEncoder", text_encoder.image_embeds, lambda dump: dump["image_embeds"]),
    "language": ("textEncoder", text_encoder.hidden_states, lambda dump: dump["hidden_states"]),
}


def main():
    request = json.loads(sys.argv[1])
    start = time.perf_counter()
    if request["device"] == "cpu":
        # A rehearsal: threads of a tiny network wait for each other most of the time.
        torch.set_num_threads(1)
    request["left"] = lambda: request["seconds"] - (time.perf_counter() - start)
    with torch.inference_mode():
        emit("versions", torch=torch.__version__, cuda=torch.version.cuda)
        if request["matrix"] > 0:
            emit("matrix", flops=matrix_rate(request))
        # The weights of one network in one type at a time.
        for network in dict.fromkeys(each["network"] for each in request["results"]):
            results = [each for each in request["results"] if each["network"] == network]
            attempt(network, lambda: compare(request, results))
            gc.collect()
            if request["device"] == "cuda":
                torch.cuda.empty_cache()


def emit(kind, **facts):
    print(json.dumps({"kind": kind, **facts}), flush=True)


# A network that does not fit, or a compiler that fails, must not stop the others.
def attempt(what, run):
    try:
        return run()
    except Exception as exception:
        emit("note", text=f"{what} failed: {(str(exception).splitlines() or [type(exception).__name__])[0][:200]}")


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
    dtype = torch.bfloat16 if request["device"] == "cuda" else torch.float32
    a = torch.randn(n, n, device=request["device"], dtype=dtype)
    b = torch.randn(n, n, device=request["device"], dtype=dtype)
    return 2 * n**3 / measure(request, lambda: F.linear(a, b))["median"]


def compare(request, results):
    """One network: PyTorch's time and numbers in qedit's type, the errors of both against float32, then the compiled time."""
    device, kind = request["device"], results[0]["kind"]
    file, function, wanted = NETWORKS[kind]
    checkpoint = Checkpoint(request["files"][file])
    weights = Weights(checkpoint, device, TYPES[results[0]["compute"]], is_kept=True)
    dumps = {each["references"]: dump_of(each, device) for each in results}
    own = {}

    def eager(each):
        dump = dumps[each["references"]]
        own[each["references"]] = function(weights, dump)
        difference = relative_errors(wanted(dump), own[each["references"]])
        emit("runs", **named(each), way="eager", difference=difference, **measure(request, lambda: function(weights, dump)))

    allow_tf32(True)
    for each in results:
        if request["left"]() < 10:
            emit("note", text=f"no time left for {label(each)}")
        else:
            attempt(label(each), lambda: eager(each))
    if not own:
        # They did not fit; those in float32 pass by.
        weights.kept.clear()
    attempt(f"{results[0]['network']} in float32", lambda: against_float32(request, results[0], checkpoint, dumps, own))
    if request["compile"] and kind == "transformer":
        allow_tf32(True)
        compiled = torch.compile(transformer.transformer_block)
        for each in results:
            attempt(f"{label(each)}, compiled", lambda: measure_compiled(request, each, weights, dumps, compiled))


def dump_of(result, device):
    dump = Checkpoint(result["dump"])
    return {name: dump.read(name, device) for name in dump.entries}


def named(result):
    return {name: result[name] for name in ("network", "references")}


def label(result):
    return f"{result['network']} with {result['references']} references"


# qedit's float32 is multiplied in TF32 by the CUDA provider, and so may PyTorch's be beside it.
def allow_tf32(is_allowed):
    torch.set_float32_matmul_precision("high" if is_allowed else "highest")
    torch.backends.cudnn.allow_tf32 = is_allowed


def against_float32(request, result, checkpoint, dumps, own):
    if request["left"]() < (EXACT_SECONDS if request["device"] == "cuda" else 0):
        emit("note", text=f"no time left for {result['network']} in float32")
        return
    allow_tf32(False)
    _, function, wanted = NETWORKS[result["kind"]]
    references = result["references"]
    # Read from the file part by part: all of them in float32 beside those in 16 bits would not fit.
    exact = function(Weights(checkpoint, request["device"], torch.float32, is_kept=False), dumps[references])
    beside = {"own": relative_errors(own[references], exact)} if references in own else {}
    emit("error", **named(result), compute=result["compute"], **relative_errors(wanted(dumps[references]), exact), **beside)


# Each number of references is another shape, and compiled anew.
def measure_compiled(request, result, weights, dumps, block):
    if request["left"]() < COMPILE_SECONDS:
        emit("note", text=f"no time left for {label(result)}, compiled")
        return
    dump = dumps[result["references"]]
    run = lambda: transformer.velocity(weights, dump, block)
    difference = relative_errors(dump["velocity"], run())
    emit("runs", **named(result), way="compiled", difference=difference, **measure(request, run))


if __name__ == "__main__":
    main()
