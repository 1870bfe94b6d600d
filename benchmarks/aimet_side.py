"""What `benchmarks.aimet` runs in AIMET's own environment: files of encodings loaded by AIMET, its outputs for them.

`python aimet_side.py FOLDER`: FOLDER/jobs.json names files and inputs; FOLDER/done.json says what came of each.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Each job is {"name", "stem", "inputs", "by": "onnx" or "torch", "network", "config": of AIMET's simulation}."""
    logging.disable(logging.INFO)
    done = {}
    for job in json.loads((folder / "jobs.json").read_text()):
        start = time.perf_counter()
        try:
            found = {"onnx": by_onnx, "torch": by_torch}[job["by"]](job, np.load(folder / job["inputs"]))
        except Exception as error:
            done[job["name"]] = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            continue
        arrays = found.pop("arrays")
        np.savez(folder / f"{job['name']}.npz", **arrays)
        done[job["name"]] = {**found, "seconds": time.perf_counter() - start}
    versions = {name: version(name) for name in ("aimet-onnx", "aimet-torch", "onnxruntime", "torch")}
    (folder / "done.json").write_text(json.dumps({"jobs": done, "versions": versions}))


def by_onnx(job: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """The .onnx in aimet-onnx's simulation, with the encodings frozen."""
    import onnx
    from aimet_onnx.common.quantsim_config.config_utils import get_path_for_target_config
    from aimet_onnx.quantsim import QuantizationSimModel, load_encodings_to_sim

    config = get_path_for_target_config(job["config"])
    sim = QuantizationSimModel(onnx.load(f"{job['stem']}.onnx"), config_file=config)
    differing = load_encodings_to_sim(sim, f"{job['stem']}.encodings", strict=False, allow_overwrite=False)
    name = sim.session.get_inputs()[0].name
    each = [sim.session.run(None, {name: image[None]}) for image in inputs]
    outputs = [np.concatenate(values) for values in zip(*each, strict=True)]
    return {
        "arrays": {f"output{place}": value for place, value in enumerate(outputs)},
        "differing": sorted(x.quantizer_name for x in differing if not x.quantizer_name.endswith(".bias")),
    }


def by_torch(job: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """The .pth in aimet-torch's simulation, with the encodings by module frozen; also what its quantizers were given
    and made.
    """
    import torch
    from aimet_networks import NETWORKS, with_state
    from aimet_torch.common.quantsim_config.config_utils import get_path_for_target_config
    from aimet_torch.nn.modules import custom
    from aimet_torch.quantsim import QuantizationSimModel

    state = torch.load(f"{job['stem']}.pth", weights_only=True)
    module = NETWORKS[job["network"]](add=custom.Add, cat=lambda: custom.Concat(1))
    module = with_state(module, state)
    images = torch.from_numpy(inputs)
    sim = QuantizationSimModel(
        module, dummy_input=images[:1], config_file=get_path_for_target_config(job["config"])
    )
    sim.load_encodings(f"{job['stem']}_torch.encodings", strict=False, partial=False, allow_overwrite=False)
    arrays, hooks = {}, []

    def keep(name: str) -> Any:
        def hook(quantizer: Any, given: Any, made: Any) -> None:
            arrays[f"{name}:in"] = given[0].detach().numpy().copy()
            arrays[f"{name}:out"] = torch.Tensor(made.detach()).numpy().copy()

        return hook

    for name, quantizer in sim.model.named_modules():
        if "_quantizers." in name and "Quantize" in type(quantizer).__name__:
            hooks.append(quantizer.register_forward_hook(keep(name)))
    with torch.no_grad():
        outputs = torch.cat([sim.model(image[None]) for image in images])
    return {"arrays": {**arrays, "output0": outputs.numpy()}, "quantizers": len(hooks)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
