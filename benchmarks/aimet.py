"""Do AIMET's own simulations, given our files, compute what ours does? `python -m benchmarks.aimet --python PYTHON`.

PYTHON is that of an environment of its own, made with `python -m venv aimet && aimet/bin/pip install aimet-torch
aimet-onnx`; BNAS_AIMET_PYTHON names it as well. Small networks, a detector and a subnet are quantized, written, loaded
there by aimet-onnx (.onnx with .encodings of each version) and aimet-torch (.pth with _torch.encodings), and run on the
same images. A fake quantization turns the last digit of a sum into a whole step now and then, so ours is computed as
the other side computes: by the same runtime, and to the last digit as it divides by scales and rounds halves. This is
neither as `bnas.export.load` runs the files: how far AIMET's outputs are from that is a figure, `from_load`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bnas
from benchmarks.aimet_networks import NETWORKS, seeded, with_state
from benchmarks.outcome import Bar, print_outcome
from bnas import export as exporting
from bnas import quantize as quantizing
from bnas.export.encodings import VERSIONS, Encoded, Encoding, read, simulated
from bnas.export.encodings.aimet import AimetEncodings, channel_axes
from bnas.quantize.encodings import Aimet

SIDE = Path(__file__).with_name("aimet_side.py")
LARGEST = 1e-5  # difference, as a part of the largest output
_LAST_DIGIT = 2.0**-22  # or less, of a number of float32
IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and how it is quantized; `network`: its name, where AIMET's side can build it."""

    name: str
    module: nn.Module
    config: Aimet
    images: Tensor
    network: str | None = None


def cases(quick: bool = False) -> Iterator[Case]:
    """Small networks in torch alone with several options; then, unless `quick`, a detector and a subnet of bnas."""
    torch.manual_seed(1)
    images = torch.randn(IMAGES, 3, 32, 32)
    seed = Aimet()
    for name in NETWORKS:
        yield Case(name=name, module=seeded(name), config=seed, images=images, network=name)
    options = {
        "per channel": Aimet(per_channel=True),
        "tf_enhanced": Aimet(scheme="tf_enhanced"),
        "percentile": Aimet(scheme="percentile", percentile=99.9),
        "strict": Aimet(weight_symmetry="strict", per_channel=True),
        "4 and 16 bits": Aimet(weight_bits=4, activation_bits=16),
        "symmetric": Aimet(activation_symmetry="unsigned"),
        "biases of 31 bits": Aimet(bias_bits=31),
    }
    several = [("resnet", name, config) for name, config in options.items()]
    several += [(network, "per channel", options["per channel"]) for network in ("depthwise", "branches")]
    for network, name, config in several:
        yield Case(
            name=f"{network}, {name}", module=seeded(network), config=config, images=images, network=network
        )
    if not quick:
        yield from _of_bnas(images)


def _of_bnas(images: Tensor) -> Iterator[Case]:
    model, (example,) = bnas.load_model("tiny_resnet", num_classes=10, shape=(3, 32, 32))
    graph = bnas.trace(model, (example,))
    supernet = bnas.Supernet(model, graph, bnas.derive_space(graph))
    subnet = bnas.extract_subnet(supernet, supernet.space.smallest)
    yield Case(name="subnet", module=subnet.eval(), config=Aimet(per_channel=True), images=images)
    large = torch.randn(2, 3, 300, 300)
    options = {"strides": [1, 1, 2, 2, 2, 1]}  # for images of 300 pixels
    config = bnas.ModelConfig(name="ssd_resnet34", options=options)
    detector, _ = bnas.load_model(config, num_classes=3, shape=(3, 300, 300))
    yield Case(name="ssd_resnet34", module=settled(detector, large), config=Aimet(), images=large)


def settled(module: nn.Module, images: Tensor) -> nn.Module:
    """`module` in eval mode, with the statistics of its batch norms for `images`.

    With fresh ones numbers grow from layer to layer, until scores are 0 or 1 and any step of a grid turns some of them.
    """
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # statistics of all that is seen
            layer.reset_running_stats()
            layer.train()
    with torch.no_grad():
        module(images)
    return module.eval()


def jobs(folder: Path, case: Case) -> tuple[Encoded, list[dict[str, Any]]]:
    """The case's files in `folder`, and what AIMET is to do with them."""
    quantized = quantizing(case.module, case.config, [case.images], case.images[:1])
    stem, made = folder / case.name.replace(" ", "_").replace(",", ""), []
    np.save(f"{stem}.npy", case.images.numpy())
    shared = {
        "inputs": f"{stem.name}.npy",
        "network": case.network,
        "config": "default_config_per_channel" if case.config.per_channel else "default_config",
    }
    for version in VERSIONS:
        path = folder / f"{stem.name}-{version.replace('.', '_')}"
        exporting(quantized, AimetEncodings(version=version), path, case.images[:1])
        made.append({**shared, "name": path.name, "stem": str(path), "by": "onnx"})
    if case.network is not None:
        made.append({**shared, "name": f"{stem.name}-torch", "stem": made[0]["stem"], "by": "torch"})
    return quantized.model, made


def by_onnxruntime(stem: str, images: Tensor, *, quantized: bool = True) -> list[np.ndarray]:
    """Outputs of our simulation of the files `stem`, image by image, with halves rounded as aimet-onnx does."""
    import onnx
    import onnxruntime

    network = onnx.load(f"{stem}.onnx")
    encodings = read(json.loads(Path(f"{stem}.encodings").read_text()), channel_axes(network))
    network = simulated(network, encodings if quantized else (), half_up=True)
    options = onnxruntime.SessionOptions()
    # no layouts of its own for convolutions: they add in another order
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(network.SerializeToString(), options)
    name = session.get_inputs()[0].name
    each = [session.run(None, {name: image[None].numpy()}) for image in images]
    return [np.concatenate(values) for values in zip(*each, strict=True)]


def by_torch(encoded: Encoded, network: str, images: Tensor) -> np.ndarray:
    """Outputs of the torch module with encodings by module, as `_torch.encodings` has them."""
    module = with_state(NETWORKS[network](), encoded.state)

    def fake(tensor: str) -> Callable[[Tensor], Tensor]:
        encoding = encoded.encoding(tensor)
        return lambda x: torch.from_numpy(by_reciprocal(encoding, x.detach().numpy()))

    def before(grid: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        return lambda _, x: (grid(x[0]), *x[1:])

    def behind(grid: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        return lambda _, x, y: grid(y)

    for path, layer in module.named_modules():
        sides = encoded.modules.get(path, {})
        if "input" in sides:
            layer.register_forward_pre_hook(before(fake(sides["input"])))
        if "output" in sides:
            layer.register_forward_hook(behind(fake(sides["output"])))
        if any(x.name == f"{path}.weight" for x in encoded.parameters):
            layer.weight.data = fake(f"{path}.weight")(layer.weight)
    with torch.no_grad():
        return torch.cat([module(image[None]) for image in images]).numpy()


def by_reciprocal(encoding: Encoding, x: np.ndarray) -> np.ndarray:
    """`x` fake-quantized as aimet-torch does it, with a multiplication by 1 / scale."""
    shape = [-1 if place == encoding.axis else 1 for place in range(x.ndim)]
    scale, offset = (np.asarray(v, np.float32).reshape(shape) for v in (encoding.scale, encoding.offset))
    numbers = np.rint(x * (np.float32(1) / scale)) - offset
    return (np.clip(numbers, 0, encoding.steps) + offset) * scale


def differing(encoded: Encoded, arrays: Mapping[str, np.ndarray]) -> tuple[float, int]:
    """How many numbers aimet-torch's quantizers made otherwise than we do of the same, and of how many; infinitely
    many of none: that proves nothing.

    A last digit counts for nothing: these quantizers get scales by maximum minus minimum in float32, which for one in
    some hundred scales does not have the digits.
    """
    wrong = count = 0
    for key in arrays:
        if not key.endswith(":in"):
            continue
        path, kind, which = key.removesuffix(":in").rsplit(".", 2)
        side = kind.removesuffix("_quantizers")
        tensor = f"{path}.{which}" if side == "param" else encoded.modules[path][side]
        ours = by_reciprocal(encoded.encoding(tensor), arrays[key])
        theirs = arrays[key.replace(":in", ":out")]
        wrong += int((np.abs(ours - theirs) > _LAST_DIGIT * np.abs(ours)).sum())
        count += ours.size
    return (wrong if count else float("inf")), count


def relative(
    ours: np.ndarray, theirs: np.ndarray, of: Callable[[np.ndarray], np.floating[Any]] = np.max
) -> float:
    """The largest difference, as a part of the largest output; infinite where shapes differ or one is not finite.

    `of`: np.mean for the mean difference.
    """
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(of(np.abs(ours - theirs)) / max(np.abs(theirs).max(), 1e-30))


def furthest(ours: Sequence[np.ndarray], arrays: Mapping[str, np.ndarray]) -> float:
    """`relative` of the output that differs most from AIMET's: "output0", "output1", …"""
    if len(ours) != sum(name.startswith("output") for name in arrays):
        return float("inf")
    return max(relative(value, arrays[f"output{place}"]) for place, value in enumerate(ours))


def compared(python: str, quick: bool = False) -> tuple[dict[str, Any], dict[str, Bar]]:
    """Figures of each case and the bars they are held to."""
    figures: dict[str, Any] = {}
    bars: dict[str, Bar] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        all_cases = list(cases(quick))
        made = {case.name: jobs(folder, case) for case in all_cases}
        (folder / "jobs.json").write_text(json.dumps([job for _, own in made.values() for job in own]))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        subprocess.run([python, str(SIDE), str(folder)], check=True, env=environment)
        done = json.loads((folder / "done.json").read_text())
        for case in all_cases:
            encoded, own = made[case.name]
            whole = by_onnxruntime(own[0]["stem"], case.images, quantized=False)[0]
            for job in own:
                found = done["jobs"][job["name"]]
                title = (
                    f"{case.name}, {'torch' if job['by'] == 'torch' else job['name'][-5:].replace('_', '.')}"
                )
                if "error" in found:
                    print(f"{title}: {found['error']}")
                    bars[title] = Bar(value=float("inf"), goal=f"<= {LARGEST}")
                    continue
                arrays = dict(np.load(folder / f"{job['name']}.npz"))
                if job["by"] == "torch":
                    wrong, count = differing(encoded, arrays)
                    found |= {"numbers": count, "otherwise": wrong}
                    bars[f"{title}: numbers quantized otherwise"] = Bar(value=wrong, goal="<= 0")
                    expected = [by_torch(encoded, str(case.network), case.images)]
                else:
                    expected = by_onnxruntime(job["stem"], case.images)
                difference = furthest(expected, arrays)
                found["quantization"] = relative(expected[0], whole)  # what all of it changes
                loaded = [own.numpy() for own in exporting.load_all(f"{job['stem']}.encodings")(case.images)]
                found["from_load"] = furthest(loaded[: len(expected)], arrays)
                found["from_load_mean"] = relative(loaded[0], arrays["output0"], np.mean)
                figures[title] = {**found, "difference": difference}
                bars[title] = Bar(value=difference, goal=f"<= {LARGEST}")
                print(f"{title}: differs by {difference:.2g}; {found}")
    return {"versions": done["versions"], "cases": figures}, bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--python", default=os.environ.get("BNAS_AIMET_PYTHON"), help="of AIMET's environment"
    )
    parser.add_argument("--quick", action="store_true", help="small networks only")
    options = parser.parse_args()
    if not options.python:
        parser.error("give --python, or set BNAS_AIMET_PYTHON, to the python of an environment with AIMET")
    print_outcome("aimet", *compared(options.python, options.quick))


if __name__ == "__main__":
    main()
