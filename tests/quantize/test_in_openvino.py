from __future__ import annotations

import pytest

from bnas.quantize import NncfPTQ, NncfPTQFx, NncfPTQTorch, OnnxQdq, QuantizeConfig
from bnas.quantize.in_openvino import for_openvino


@pytest.mark.parametrize("kind", [NncfPTQFx, OnnxQdq])
def test_networks_for_other_runtimes_are_judged_as_openvino_quantizes_them(
    kind: type[QuantizeConfig],
) -> None:
    asked = kind(samples=2, preset="performance", overflow_fix="disable")  # type: ignore[call-arg]
    assert for_openvino(asked) == NncfPTQ(samples=2, preset="performance", overflow_fix="disable")


@pytest.mark.parametrize("config", [NncfPTQ(samples=3), NncfPTQTorch(samples=3)])
def test_what_openvino_runs_stays(config: QuantizeConfig) -> None:
    assert for_openvino(config) is config
