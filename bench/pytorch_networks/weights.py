"""Tensors of a .safetensors file by their published names, in any type on any device. Needs torch alone."""

import json
import mmap
import struct

import torch

TYPES = {
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BF16": torch.bfloat16, "F16": torch.float16,
    "F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}  # fmt: skip
# Names of the scale of a float8 weight, in the older and the newer format.
SCALES = ["scale_weight", "weight_scale"]


class Checkpoint:
    """A memory-mapped file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (length,) = struct.unpack("<Q", self.data[:8])
        header = json.loads(self.data[8 : 8 + length])
        self.start = 8 + length
        self.config = json.loads(header.pop("__metadata__", {}).get("config", "{}"))
        self.entries = header

    def shape(self, name):
        return self.entries[name]["shape"]

    def read(self, name, device="cpu", dtype=torch.float32):
        """A dequantized tensor: weight times scale in float32, then rounded."""
        module, _, kind = name.rpartition(".")
        scale = next((f"{module}.{each}" for each in SCALES if f"{module}.{each}" in self.entries), None) if kind == "weight" else None
        if scale is None:
            return self.raw(name, device).to(dtype)
        return (self.raw(name, device).float() * self.raw(scale, device)).to(dtype)

    def raw(self, name, device):
        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        if end == begin:
            return torch.empty(entry["shape"], dtype=TYPES[entry["dtype"]], device=device)
        stored = torch.frombuffer(self.data, dtype=torch.uint8, count=end - begin, offset=self.start + begin)
        # A view needs an aligned start, which the format does not guarantee.
        return stored.to(device).clone().view(TYPES[entry["dtype"]]).reshape(entry["shape"])


class Weights:
    """The weights of a network in one type: cached after reading, or read again at every use."""

    def __init__(self, checkpoint, device, dtype, *, is_kept):
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self.kept = {} if is_kept else None

    @property
    def config(self):
        return self.checkpoint.config

    def shape(self, name):
        return self.checkpoint.shape(name)

    def under(self, prefix):
        """The tensors below a path, by the rest of their names."""
        if self.kept is None or prefix not in self.kept:
            names = [name for name in self.checkpoint.entries if name.startswith(prefix) and name.rpartition(".")[2] in ("weight", "bias", "gamma")]
            found = {name[len(prefix) :]: self.checkpoint.read(name, self.device, self.dtype) for name in names}
            if self.kept is None:
                return found
            self.kept[prefix] = found
        return self.kept[prefix]

    def count(self, prefix):
        """How many numbered parts lie below a path."""
        return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in self.checkpoint.entries if name.startswith(prefix))
