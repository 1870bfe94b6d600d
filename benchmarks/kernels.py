"""What an INT8 convolution costs by its widths: `OMP_WAIT_POLICY=PASSIVE python -m benchmarks.kernels`.

OpenVINO on one thread, the middle one of three convolutions on 56×56 positions; its time and its kernel are those of
OpenVINO's own profile, which needs no other network to be subtracted. It is why the latency predictor counts outputs
apart that fill no whole vectors, and those made from few inputs (docs/decisions/0019). Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from torch import nn

from benchmarks.outcome import print_outcome
from bnas.export.openvino_runtime import core
from bnas.measure import HwConfig
from bnas.measure.backends.openvino import fill_inputs
from bnas.measure.hardware import pinned
from bnas.quantize import NncfPTQ
from bnas.quantize.placement import Placement

OUTPUTS = (48, 56, 64, 72, 80, 88, 96, 112, 128, 136, 144)
INPUTS = (3, 8, 16, 24, 32, 48, 56, 64, 80, 96, 128)
POSITIONS = 56
_PROFILED = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="compilations, in turn")
    parser.add_argument("--calls", type=int, default=50, help="of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, object] = {}
    with pinned(HwConfig(threads=1)):
        for title, widths in (
            ("64 inputs", [(64, outputs) for outputs in OUTPUTS]),
            ("24 inputs", [(24, outputs) for outputs in OUTPUTS]),
            ("64 outputs", [(inputs, 64) for inputs in INPUTS]),
        ):
            print(f"\npointwise, {POSITIONS}×{POSITIONS}, {title}: widths, ns for 1 000 MACs, µs, kernel")
            for inputs, outputs in widths:
                runs = [_profiled(inputs, outputs, options.calls) for _ in range(options.repeats)]
                times = [us for us, _ in runs]
                kilo_macs = inputs * outputs * POSITIONS**2 / 1000
                print(
                    f"  {inputs:3} → {outputs:3}  {1000 * median(times) / kilo_macs:7.2f}  {median(times):7.1f} "
                    f"({min(times):.1f} to {max(times):.1f})  {runs[0][1]}"
                )
                figures[f"{inputs} -> {outputs}"] = {"us": times, "kernel": runs[0][1]}
    print_outcome("kernels", figures, {})


def _profiled(inputs: int, outputs: int, calls: int) -> tuple[float, str]:
    """Median microseconds of the convolution in the middle, and its kernel's name."""
    example = torch.randn(1, inputs, POSITIONS, POSITIONS)
    model = nn.Sequential(
        nn.Conv2d(inputs, inputs, 1), nn.ReLU(), nn.Conv2d(inputs, outputs, 1), nn.ReLU(), nn.Conv2d(outputs, 8, 1)
    ).eval()  # fmt: skip
    network = Placement(NncfPTQ(bias_correction="none")).quantize(model, example)
    request = core().compile_model(network.model, "CPU", _PROFILED).create_infer_request()
    fill_inputs(request)
    rows = []
    for _ in range(calls):
        request.infer()
        layers = [own for own in request.profiling_info if own.node_type == "Convolution"]
        rows.append([(own.real_time.total_seconds() * 1e6, own.exec_type) for own in layers])
    middle = [row[1] for row in rows[calls // 5 :]]
    return median(us for us, _ in middle), middle[-1][1]


if __name__ == "__main__":
    main()
