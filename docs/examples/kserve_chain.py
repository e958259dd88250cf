"""An edit by the four stage models of `qedit serve`, over HTTP or gRPC, with the bytes of `qedit run`.

pip install "tritonclient[http,grpc]"
python kserve_chain.py grpc 127.0.0.1:8001 photo.jpg "make it winter" out.png seed=42 cfg=2.5 negative_prompt=
"""

import importlib
import os
import sys

import numpy as np

DATATYPES = {"O": "BYTES", "f": "FP32"}


def element(value):
    """One byte string as a tensor."""
    return np.array([value if isinstance(value, bytes) else value.encode()], dtype=np.object_)


def main(protocol, address, path, prompt, output, *settings):
    triton = importlib.import_module(f"tritonclient.{protocol}")
    # Over HTTP the client waits for a minute, unless it is told otherwise.
    options = {"network_timeout": 600} if protocol == "http" else {}
    client = triton.InferenceServerClient(address, **options)
    given = dict(each.split("=", 1) for each in settings)

    def infer(model, tensors, *parameters):
        """All outputs of a model by their names; they are the next one's inputs."""
        inputs = []
        for name, values in tensors.items():
            tensor = triton.InferInput(name, list(values.shape), DATATYPES[values.dtype.kind])
            tensor.set_data_from_numpy(values)
            inputs.append(tensor)
        own = {name: given[name] for name in parameters if name in given}
        result = client.infer(model, inputs, parameters=own or None)
        response = result.get_response()
        names = [each["name"] for each in response["outputs"]] if protocol == "http" else [each.name for each in response.outputs]
        return {name: result.as_numpy(name) for name in names}

    with open(path, "rb") as file:
        image = {"IMAGE": element(file.read()), "IMAGE_NAMES": element(os.path.basename(path))}
    latents = infer("encode_image", image, "model", "megapixels")
    cond = infer("encode_prompt", {**image, "PROMPT": element(prompt)}, "model", "negative_prompt")
    samples = infer("sample", {**latents, **cond}, "model", "seed", "steps", "cfg")
    picture = infer("decode", samples, "model")
    with open(output, "wb") as file:
        file.write(picture["IMAGE"][0])


main(*sys.argv[1:])
