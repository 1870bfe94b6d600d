from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measure.latency_cases import configs, conv, layers_of, measured, norm

from bnas.measure import fit_latency
from bnas.measure.features import COLUMNS, KINDS, TERMS, features, layer_columns, tabulate
from bnas.space import PRECISIONS, LayerCost, SubnetConfig


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
    assert found["outputs.ragged"] == found["outputs.few_inputs"] == 2 * 17 * 10
    assert found["inputs"] == (3 + 17) * 10
    assert found["layers"] == 2
    assert set(found) == set(COLUMNS)


def test_strides_and_fused_functions_count() -> None:
    layer = replace(conv(4, 16, positions=10), input_positions=40, then=("add", "relu"))
    found = features([layer])
    assert found["inputs"] == 4 * 40
    assert found["pointwise"] == 2 * 16 * 10


def test_outputs_that_kernels_are_slow_at_count_apart() -> None:
    ragged, few, whole = conv(64, 40, positions=10), conv(63, 48, positions=10), conv(64, 48, positions=10)
    assert features([ragged, few, whole])["outputs.ragged"] == 40 * 10
    assert features([ragged, few, whole])["outputs.few_inputs"] == 48 * 10
    assert features([conv(128, 64, positions=10, groups=4)])["outputs.few_inputs"] == 64 * 10


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
    place = layer_columns(table.names).index("light.macs")
    assert table.layer_columns[0, place] == next(own.macs for own in subnets[0] if own.name == "light")
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


def test_layers_that_stay_fp32_are_of_kinds_of_their_own() -> None:
    layers = [conv(3, 16, name="a"), norm(16), conv(16, 16, name="b"), conv(16, 8, kernel=1, name="c")]
    plain = features(layers)
    alike = features([replace(layer, precision="int8_tensor") for layer in layers])
    assert plain == alike == features([replace(layer, precision="int8_channel") for layer in layers])
    assert {kind for kind in KINDS if plain[f"{kind}.layers"]} == {"spatial", "pointwise"}
    whole = features([replace(layer, precision="fp32") for layer in layers])
    assert {kind for kind in KINDS if whole[f"{kind}.layers"]} == {"spatial_fp32", "pointwise_fp32"}
    for term in ("macs", "weights", "outputs", "inputs", "layers"):
        assert whole[f"spatial_fp32.{term}"] == plain[f"spatial.{term}"]
        assert whole[term] == plain[term]
    assert whole["macs.padded_to_16"] < plain["macs.padded_to_16"]  # 3 inputs are not padded to 4


def test_where_the_precision_changes_numbers_are_converted() -> None:
    precisions = ("int8_channel", "fp32", "fp32", "int8_tensor", "int8_channel")
    layers = [
        replace(conv(8, 8, positions=10 * (place + 1), name=f"l{place}"), precision=own)
        for place, own in enumerate(precisions)
    ]
    found = features([layers[0], replace(norm(8), precision="int8_channel"), *layers[1:]])
    assert found["conversion.layers"] == 2
    assert found["conversion.inputs"] == 8 * 20 + 8 * 40  # what the second layer reads, and the fourth
    assert found["conversion.macs"] == 0
    assert found["macs"] == sum(layer.macs for layer in layers)


def test_a_table_tells_the_precisions_of_a_layer_apart() -> None:
    small, whole = conv(8, 8, name="a"), replace(conv(8, 8, name="a"), precision="fp32")
    table = tabulate([[replace(small, precision="int8_channel")], [whole]], signatures=True)
    assert table.names == ("a", "a.fp32")
    assert table.layers[0, 1].tolist() == table.layers[1, 0].tolist() == [0.0] * len(TERMS)
    assert table.layers[0, 0].any()
    assert table.signatures[0] == tabulate([[small]], signatures=True).signatures[0]
    assert not table.signatures[0].keys() & table.signatures[1].keys()


@pytest.mark.parametrize("kind", ["gaussian_process", "ridge"])
def test_predictors_learn_what_fp32_costs(kind: str) -> None:
    """A made-up law by which a layer takes four times as long in FP32; told of the architecture alone they miss it."""
    rng = np.random.default_rng(0)
    blocks = [f"block{index}" for index in range(4)]
    subnets = [
        SubnetConfig(
            {
                "width": int(rng.integers(2, 13)) * 16,
                **{f"{own}.precision": int(rng.integers(3)) for own in blocks},
            }
        )
        for _ in range(80)
    ]

    def layers(config: SubnetConfig) -> list[LayerCost]:
        width = config["width"]
        return [
            replace(conv(width, width, name=own), precision=PRECISIONS[config[f"{own}.precision"]])
            for own in blocks
        ]

    def blind(config: SubnetConfig) -> list[LayerCost]:
        return [replace(layer, precision="") for layer in layers(config)]

    def law(config: SubnetConfig) -> float:
        times = (layer.macs * (4 if layer.precision == "fp32" else 1) for layer in layers(config))
        return 0.05 + 1e-7 * sum(times)

    lines = [
        measured(own, law(own) / 10, role="held_out" if place >= 50 else "fit")
        for place, own in enumerate(subnets)
    ]
    errors = [fit_latency(lines, costs, kinds=[kind]).figures.mape_percent for costs in (layers, blind)]
    assert errors[0] < 3 < 10 < errors[1]
