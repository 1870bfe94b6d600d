from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measure.latency_cases import configs, conv, layers_of, norm

from bnas.measure.features import COLUMNS, KINDS, TERMS, features, tabulate


def test_features_are_sums_over_the_layers() -> None:
    found = features(
        [conv(3, 17, positions=10, kernel=1), norm(17), conv(17, 17, positions=10, groups=17, name="b")]
    )
    dense, light = 3 * 17 * 10, 17 * 9 * 10
    assert found["macs"] == dense + light
    assert found["depthwise.macs"] == light
    # 17 → 32 outputs, 3 → 4 inputs; a depthwise layer has no inputs to pad
    assert found["macs.padded_to_16"] == pytest.approx(4 * 32 * 10 + 32 * 9 * 10)
    assert found["macs.padded_to_64"] == pytest.approx(4 * 64 * 10 + 64 * 9 * 10)
    assert found["weights"] == 3 * 17 + 17 * 9
    assert found["outputs"] == 2 * 17 * 10
    assert found["inputs"] == (3 + 17) * 10
    assert found["layers"] == 2
    assert set(found) == set(COLUMNS)


def test_strides_and_fused_functions_count() -> None:
    layer = replace(conv(4, 16, positions=10), input_positions=40, then=("add", "relu"))
    found = features([layer])
    assert found["inputs"] == 4 * 40
    assert found["pointwise"] == 2 * 16 * 10


def test_a_layer_is_bound_by_arithmetic_or_by_what_it_moves() -> None:
    heavy, light = conv(64, 64, positions=3000), conv(64, 64, positions=1, kernel=1)
    assert features([heavy])["bound_8"] == heavy.macs
    moved = light.weights + 64 + 64
    assert features([light])["bound_8"] == 8 * moved
    assert features([light])["bound_32"] == 32 * moved


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (conv(8, 8, kernel=1), "pointwise"),
        (conv(8, 8), "spatial"),
        (conv(8, 8, groups=8), "depthwise"),
        (conv(8, 8, groups=2), "grouped"),
        (conv(8, 8, positions=1, kernel=1), "vector"),
        (replace(conv(8, 8), kind="matmul"), "matmul"),
    ],
)
def test_layers_have_kinds(layer: object, kind: str) -> None:
    found = features([layer])  # type: ignore[list-item]
    assert [own for own in KINDS if found[f"{own}.layers"]] == [kind]


def test_a_table_tells_layers_apart_by_name() -> None:
    subnets = [layers_of(own) for own in configs(6)]
    table = tabulate(subnets)
    assert table.names[:2] == ("stem", "light")
    assert "norm" not in table.names
    np.testing.assert_allclose(table.layers.sum(axis=1), table.totals)
    np.testing.assert_allclose(table.macs, [sum(layer.macs for layer in own) for own in subnets])
    other = tabulate([(conv(3, 8, name="unknown"),)], table.names)
    assert not other.layers.any()
    assert other.macs[0] == conv(3, 8).macs


def test_rows_of_a_table() -> None:
    subnets = [layers_of(own) for own in configs(6)]
    table = tabulate(subnets, signatures=True).on(np.arange(6.0))
    some = table[np.array([4, 1])]
    assert len(some) == 2
    np.testing.assert_array_equal(some.columns, tabulate([subnets[4], subnets[1]]).columns)
    assert some.signatures == (table.signatures[4], table.signatures[1])
    assert some.base_ms is not None
    assert some.base_ms.tolist() == [4.0, 1.0]
    assert sum(some.signatures[0].values()) == sum(layer.kind == "conv2d" for layer in subnets[4])
    assert len(COLUMNS) == len(TERMS) * (1 + len(KINDS)) == table.columns.shape[1]
