"""Runs exported models in another release of ONNX Runtime, and prints how far their outputs are from those that lie beside them.

older_runtime.py FOLDER: in it a folder for each model with model.onnx, in.NAME.bin, out.NAME.bin and tensors.json.
"""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

LEVELS = ort.GraphOptimizationLevel
results = []
for file in sorted(Path(sys.argv[1]).glob("*/model.onnx")):
    tensors = json.loads((file.parent / "tensors.json").read_text())

    def read(side):
        return {
            name: np.fromfile(file.parent / f"{side}.{name}.bin", dtype=about["type"]).reshape(about["shape"])
            for name, about in tensors[side].items()
        }

    given, wanted = read("in"), read("out")
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        found = dict(zip([output.name for output in session.get_outputs()], session.run(None, given)))
        error = max(
            float(np.abs(found[name].astype(np.float64) - wanted[name]).max(initial=0) / (np.abs(wanted[name]).max(initial=0) or 1))
            for name in wanted
        )
        shapes = {each.name: [dim if isinstance(dim, int) else -1 for dim in each.shape] for each in session.get_outputs()}
        results.append({"model": file.parent.name, "level": str(level).split(".")[-1], "error": error, "shapes": shapes})
print(json.dumps({"version": ort.__version__, "results": results}))
