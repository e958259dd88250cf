"""The PyTorch side of full-width.ts: the same networks from diffusers and transformers in float32, with the weights of the same files.

full_width.py REQUEST, a JSON object: network, checkpoint, inputs (a file), results (files by name). Prints the errors of the results as JSON.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures/oracle"))

from pytorch_networks.errors import relative_errors
from tensors import dequantised, read


@torch.inference_mode()
def main():
    request = json.loads(sys.argv[1])
    network = {
        "VAE encoder": vae_encoder, "VAE decoder": vae_decoder, "vision tower": vision, "language model": language, "transformer": transformer,
    }[request["network"]]  # fmt: skip
    wanted, signed = network(request["checkpoint"], read(request["inputs"]))
    errors = {name: relative_errors(signed(read(path)["result"]), wanted) for name, path in request["results"].items()}
    print(json.dumps(errors))


def same(result):
    return result


def vae_encoder(path, inputs):
    import vae

    return vae.load(path, {}).encode(inputs["image"][:, :, None] * 2 - 1).latent_dist.mode()[:, :, 0], same


def vae_decoder(path, inputs):
    import vae

    # In -1..1: with a mean near 0, relative errors are not understated.
    return vae.load(path, {}).decode(inputs["latent"][:, :, None]).sample[:, :, 0], lambda result: result * 2 - 1


def vision(path, inputs):
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    sizes = dict(hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584, window_size=112)
    model = Qwen2_5_VisionTransformerPretrainedModel._from_config(Qwen2_5_VLVisionConfig(depth=2, fullatt_block_indexes=[1], **sizes))
    load(model.eval(), path, "visual.")
    return model(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"].long()).pooler_output, same


def language(path, inputs):
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    sizes = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4, num_hidden_layers=2)
    rope = dict(rope_type="default", rope_theta=1000000.0, mrope_section=[16, 24, 24])
    # Without a vocabulary: the embeddings are given.
    model = Qwen2_5_VLTextModel._from_config(Qwen2_5_VLTextConfig(vocab_size=1, rope_parameters=rope, pad_token_id=0, bos_token_id=0, eos_token_id=0, **sizes))
    load(model.eval(), path, "model.")
    return model(inputs_embeds=inputs["inputs_embeds"], position_ids=inputs["position_ids"].long()[:, None], use_cache=False).last_hidden_state, same


def load(model, path, prefix):
    """All weights below a prefix; of the model's own, the token table alone may stay as it is."""
    stored = {name.removeprefix(prefix): value for name, value in dequantised(read(path)).items() if name.startswith(prefix)}
    missing, unexpected = model.load_state_dict(stored, strict=False)
    assert not unexpected and set(missing) <= {"embed_tokens.weight"}, (missing, unexpected)


def transformer(path, inputs):
    import transformer

    model = transformer.load(path, dict(num_layers=2))
    references = [inputs["reference_1"], inputs["reference_2"]]
    return transformer.velocity(model, inputs["latent"], references, inputs["prompt_embeds"], inputs["timestep"]), same


if __name__ == "__main__":
    main()
