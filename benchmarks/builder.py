"""What being elastic costs: `OMP_WAIT_POLICY=PASSIVE python -m benchmarks.builder [--quick]`.

ResNet-50 at 224², 2 threads, in eval mode without gradients. Compared networks run in turn (A B A B …, the
order rotated), and a ratio is the median over the rounds of (one's time ÷ the other's in the same round).
Where nvidia-modelopt can be imported, it is measured in the same rounds:

    python3 -m venv modelopt && modelopt/bin/pip install torch torchvision -e . \
        nvidia-modelopt torchprofile requests huggingface_hub
    OMP_WAIT_POLICY=PASSIVE modelopt/bin/python -m benchmarks.builder

Nothing else should run meanwhile: threads that wait for one another multiply what another process takes.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.makers import ElasticNet, Maker, makers
from benchmarks.outcome import Bar, print_outcome
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved

BATCHES = (8, 1)
OURS = "bnas"


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How often each thing is done; `forward` rounds at most, by batch size."""

    builds: int = 7
    activations: int = 300
    extractions: int = 10
    configs: int = 7
    forward: tuple[tuple[int, int], ...] = ((8, 40), (1, 150))

    def timing(self, batch: int) -> MeasureConfig:
        rounds = dict(self.forward)[batch]
        return MeasureConfig(
            min_rounds=rounds // 2, max_rounds=rounds, block_ms=1.0, target_ratio_error_percent=0.2
        )


QUICK = Repeats(builds=2, activations=40, extractions=3, configs=3, forward=((8, 6), (1, 12)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--model", default="resnet50", help="a classification network of torchvision")
    parser.add_argument("--size", type=int, default=224, help="pixels along a side")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    repeats = QUICK if options.quick else Repeats()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    plain = torchvision.models.get_model(options.model, weights=None).eval()
    images = {batch: torch.randn(batch, 3, options.size, options.size) for batch in BATCHES}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{options.model} at {options.size}², {options.threads} threads, torch {torch.__version__}, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'not set')}, load before: {load:.2f}\n{repeats}"
    )
    known = makers()
    with torch.no_grad():
        memory = _memory(known[OURS], plain, images)
        building = _building(known, plain, images, repeats)
        nets = {name: make(copy.deepcopy(plain), (images[1],), 0) for name, make in known.items()}
        figures: dict[str, Any] = {
            "model": options.model,
            "size": options.size,
            "threads": options.threads,
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
            "load_before": load,
            "memory": memory,
            "building_s": building,
            "activating_ms": {name: _activating(net, repeats) for name, net in nets.items()},
            "extracting_s": {name: _extracting(net, repeats) for name, net in nets.items()},
            "largest": {batch: _largest(plain, nets, images[batch], repeats) for batch in BATCHES},
            "random": {
                batch: {name: _random(net, images[batch], repeats) for name, net in nets.items()}
                for batch in BATCHES
            },
        }
    _print(figures, list(nets))
    print_outcome("builder", figures, _bars(figures))


def _spread(values: list[float]) -> dict[str, float]:
    p10, middle, p90 = (float(value) for value in np.percentile(values, [10, 50, 90]))
    return {"median": middle, "p10": p10, "p90": p90, "repeats": len(values)}


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _memory(make: Maker, plain: nn.Module, images: dict[int, Tensor]) -> dict[str, float]:
    """Bytes of all tensors that Python holds, and of the process, before and after making a model elastic."""
    model = copy.deepcopy(plain)
    model(images[8])  # what a forward pass leaves behind is not the builder's
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    before, process_before = _tensor_bytes(), _process_bytes()
    net = make(model, (images[1],), 0)
    built, process_built = _tensor_bytes(), _process_bytes()
    for _ in range(10):
        net.draw_and_activate()
        model(images[1])
    after = _tensor_bytes()
    net.activate(net.largest)
    state = model.state_dict()
    return {
        "weights_bytes": weights,
        "added_by_building": (built - before) / weights,
        "added_after_ten_subnets": (after - before) / weights,
        "same_memory": float(all(state[name].data_ptr() == place for name, place in places.items())),
        "process_mib_before": process_before / 2**20,
        "process_mib_built": process_built / 2**20,
        "process_mib_after": _process_bytes() / 2**20,
    }


def _tensor_bytes() -> int:
    """Bytes of the storages of all living tensors, each counted once."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _process_bytes() -> int:
    """Memory that the process occupies; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _building(
    known: dict[str, Maker], plain: nn.Module, images: dict[int, Tensor], repeats: Repeats
) -> dict[str, dict[str, float]]:
    """Seconds to build on one image, in turn with the forward pass of one image."""
    times: dict[str, list[float]] = {}
    plain(images[1])
    for _ in range(repeats.builds):
        for name, make in known.items():
            model = copy.deepcopy(plain)
            gc.collect()
            times.setdefault("forward", []).append(_seconds(partial(plain, images[1])))
            times.setdefault(name, []).append(_seconds(partial(make, model, (images[1],), 0)))
    return {name: {**_spread(values), "first": values[0]} for name, values in times.items()}


def _activating(net: ElasticNet, repeats: Repeats) -> dict[str, dict[str, float]]:
    """Milliseconds; every config is drawn anew, the first when nothing has been activated yet."""
    given = [net.draw() for _ in range(repeats.activations)]
    activate, draw = [], []
    for config in given:
        activate.append(1000 * _seconds(partial(net.activate, config)))
        draw.append(1000 * _seconds(net.draw_and_activate))
    return {
        "given": {**_spread(activate), "first": activate[0]},
        "drawn": {**_spread(draw), "first": draw[0]},
    }


def _extracting(net: ElasticNet, repeats: Repeats) -> dict[str, float]:
    times = []
    for _ in range(repeats.extractions):
        config, source = net.draw(), net.copy_to_extract()
        times.append(_seconds(partial(net.extract, source, config)))
    return _spread(times)


def _largest(
    plain: nn.Module, nets: dict[str, ElasticNet], images: Tensor, repeats: Repeats
) -> dict[str, Timing]:
    runners = {"plain": partial(plain, images)}
    for name, net in nets.items():
        net.activate(net.largest)
        assert torch.equal(net.module(images), plain(images)), f"{name}: the largest is not the original"
        runners[name] = partial(net.module, images)
    return time_interleaved(runners, repeats.timing(len(images)))


def _random(net: ElasticNet, images: Tensor, repeats: Repeats) -> dict[str, Any]:
    """Random configs, active, against their extracted modules: the spread of the ratios over the configs."""
    ratios, milliseconds = [], []
    for _ in range(repeats.configs):
        config = net.draw()
        subnet = net.extract(net.copy_to_extract(), config)
        net.activate(config)
        assert torch.allclose(net.module(images), subnet(images), rtol=1e-3, atol=1e-4)
        runners = {"extracted": partial(subnet, images), "active": partial(net.module, images)}
        timings = time_interleaved(runners, repeats.timing(len(images)))
        ratios.append(timings["active"].ratio)
        milliseconds.append(timings["extracted"].latency_ms)
    return {"ratio": _spread(ratios), "ratios": ratios, "extracted_ms": milliseconds}


def _print(figures: dict[str, Any], names: list[str]) -> None:
    """Every figure as median (p10 … p90; repeats), bnas and its peer side by side."""

    def line(what: str, cells: list[str]) -> None:
        print(f"{what:<44}" + "".join(f"{cell:<38}" for cell in cells))

    def text(spread: dict[str, float], digits: int = 3) -> str:
        low, high = f"{spread['p10']:.{digits}f}", f"{spread['p90']:.{digits}f}"
        return f"{spread['median']:.{digits}f} ({low} … {high}; {spread['repeats']:.0f})"

    def ratio(timing: Timing) -> str:
        return f"{timing.ratio:.3f} ({timing.ratio_p10:.3f} … {timing.ratio_p90:.3f}; {timing.rounds} rounds)"

    print()
    line("median (p10 … p90; repeats)", names)
    line("building, s", [text(figures["building_s"][name]) for name in names])
    line("  the first in the process, s", [f"{figures['building_s'][name]['first']:.3f}" for name in names])
    line("  plain forward of one image, s", [text(figures["building_s"]["forward"])])
    for key, what in (("given", "activating a given config, ms"), ("drawn", "drawing and activating, ms")):
        line(what, [text(figures["activating_ms"][name][key]) for name in names])
        line("  the first, ms", [f"{figures['activating_ms'][name][key]['first']:.3f}" for name in names])
    line("extracting, s", [text(figures["extracting_s"][name]) for name in names])
    for batch in BATCHES:
        plain = figures["largest"][batch]["plain"]
        line(f"largest ÷ plain, batch {batch}", [ratio(figures["largest"][batch][name]) for name in names])
        line(f"  plain, batch {batch}, ms", [f"{plain.latency_ms:.1f}"])
    for batch in BATCHES:
        cells = [text(figures["random"][batch][name]["ratio"]) for name in names]
        line(f"random ÷ its extracted module, batch {batch}", cells)
    memory = figures["memory"]
    print(
        f"memory: {memory['added_by_building']:.4f} of the weights' bytes added by building, "
        f"{memory['added_after_ten_subnets']:.4f} after ten subnets; process "
        f"{memory['process_mib_before']:.0f} → {memory['process_mib_built']:.0f} → "
        f"{memory['process_mib_after']:.0f} MiB\n"
    )


def _bars(figures: dict[str, Any]) -> dict[str, Bar]:
    building = figures["building_s"]
    allowed = max(0.8, 3 * building["forward"]["median"])
    activating = figures["activating_ms"][OURS]
    bars = {
        "building, s": Bar(value=building[OURS]["median"], goal=f"<= {allowed:.3f}"),
        "activating a given config, ms": Bar(value=activating["given"]["median"], goal="<= 0.4"),
        "drawing and activating, ms": Bar(value=activating["drawn"]["median"], goal="<= 0.6"),
        "extracting, s": Bar(value=figures["extracting_s"][OURS]["median"], goal="<= 0.04"),
        "memory added, of the weights": Bar(
            value=figures["memory"]["added_after_ten_subnets"], goal="<= 0.01"
        ),
        "weights where they were": Bar(value=figures["memory"]["same_memory"], goal=">= 1"),
    }
    for batch, most in ((8, 1.01), (1, 1.02)):
        ratio = figures["largest"][batch][OURS].ratio
        bars[f"largest ÷ plain, batch {batch}"] = Bar(value=ratio, goal=f"<= {most}")
    for batch in BATCHES:
        ratio = figures["random"][batch][OURS]["ratio"]["median"]
        bars[f"random ÷ extracted, batch {batch}"] = Bar(value=ratio, goal="<= 1.02")
    return bars


if __name__ == "__main__":
    main()
