"""`bnas check` on a miniature of ImageNet, by the seed's configuration, and on the test images of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from miniature_imagenet import IMAGES, SEED, Miniature, make_miniature, write_network, write_optimized

from bnas.commands.check import Checks, command
from bnas.commands.invocation import Invocation
from bnas.errors import BnasError, ConfigError, DataError, ExportError, RunError
from bnas.files import read_json

TOP5 = "                - {name: accuracy@top5, type: accuracy, top_k: 5}\n"


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make_miniature(tmp_path_factory.mktemp("imagenet"))


def check(*words: str, conf: str | None = None, arguments: tuple[str, ...] = ()) -> None:
    command(Invocation(command="check", arguments=arguments, overrides=words, conf=conf))


def by_yaml(miniature: Miniature, out: Path, *words: str, text: str = SEED + TOP5, **changes: str) -> Checks:
    folders = (f"source={miniature.root}", f"models={miniature.root}")
    check(f"yaml={miniature.yaml(text, **changes)}", *folders, f"output={out / 'out.json'}", *words)
    return read_json(out / "out.json", Checks)


def counts(checks: Checks) -> list[tuple[int, ...]]:
    return [tuple(score.correct for score in each.scores) for each in checks.checks]


def test_the_seeds_yaml_gives_the_top_k_of_torchvisions_own_transforms(
    miniature: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = (miniature.correct(1), miniature.correct(5))
    assert expected == (2, 10)
    found = by_yaml(miniature, tmp_path)
    assert counts(found) == [expected]
    (one,) = found.checks
    assert (one.images, one.classes, one.network) == (IMAGES, 7, str(miniature.root / "net.onnx"))
    printed = capsys.readouterr().out
    for said in (
        "accuracy@top1",
        "14.29 %",
        "2 of 14",
        "accuracy@top5",
        "71.43 %",
        "14 images in",
        found.hardware.cpu,
    ):
        assert said in printed
    assert "images come to the network's own layers as RGB" in printed


def test_ir_with_it_all_built_in_gives_the_same(miniature: Miniature, tmp_path: Path) -> None:
    write_optimized(miniature.root / "net.onnx", miniature.root / "optimized.xml")
    assert counts(by_yaml(miniature, tmp_path, **{"onnx_model: net.onnx": "model: optimized.xml"})) == [
        (2, 10)
    ]


def test_the_order_of_the_channels_decides(miniature: Miniature, tmp_path: Path) -> None:
    """Each of the two reversals matters; together they cancel each other."""
    right = (miniature.correct(1), miniature.correct(5))
    wrong = (miniature.correct(1, swapped=True), miniature.correct(5, swapped=True))
    assert wrong != right
    step = {"              - type: bgr_to_rgb\n": ""}
    flag = {"        mo_flags:\n            - reverse_input_channels\n": ""}
    reader = {"pillow_imread": "opencv_imread"}
    assert counts(by_yaml(miniature, tmp_path, **step)) == [wrong]
    assert counts(by_yaml(miniature, tmp_path, **flag)) == [wrong]
    assert counts(by_yaml(miniature, tmp_path, **reader)) == [wrong]
    assert counts(by_yaml(miniature, tmp_path, **step, **flag)) == [right]
    assert counts(by_yaml(miniature, tmp_path, **step, **reader)) == [right]


def test_fewer_images_smaller_batches_and_two_networks_beside_each_other(
    miniature: Miniature, tmp_path: Path
) -> None:
    launcher = SEED[SEED.index("      - framework") : SEED.index("        datasets:")]
    write_network(miniature.root / "one.onnx", np.ones((7, 3)), batch=1)
    datasets = SEED[SEED.index("        datasets:") :] + TOP5
    text = (
        "models:\n  - name: both\n    launchers:\n"
        + launcher + launcher.replace("net.onnx", "one.onnx") + datasets.replace("\n        ", "\n    ")[4:]
    )  # fmt: skip
    found = by_yaml(miniature, tmp_path, "batch=3", text=text)
    assert counts(found)[0] == (2, 10)
    first, second = found.checks
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.images == IMAGES
    few = by_yaml(miniature, tmp_path, "images=5")
    assert few.checks[0].images == 5


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (("yaml=lost.yml",), ConfigError, "lost.yml does not exist"),
        (("yaml=x.yml", "source=/nowhere"), ConfigError, "source: there is no /nowhere"),
        (("yaml=x.yml", "sources=."), ConfigError, "no such option 'sources'; did you mean 'source'"),
        (("yaml=x.yml", "batch=0"), ConfigError, "batch: expected a whole number above 0, got '0'"),
        (("yaml=x.yml", "built_in=maybe"), ConfigError, "built_in: expected yes, no or auto"),
        (("source=.",), ConfigError, "source goes with --yaml FILE"),
    ],
)
def test_words_that_do_not_fit(
    words: tuple[str, ...], error: type[BnasError], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        check(*words)


def test_bad_data_and_networks_are_one_clear_error_each(miniature: Miniature, tmp_path: Path) -> None:
    listing = (miniature.root / "val.txt").read_text()
    folders = (f"source={miniature.root}", f"models={miniature.root}")

    def refused(error: type[BnasError], text: str, lines: str = listing, **changes: str) -> None:
        (tmp_path / "val.txt").write_text(lines)
        with pytest.raises(error, match=text):
            check(f"yaml={miniature.yaml(**changes)}", *folders, f"annotations={tmp_path / 'val.txt'}")

    name = listing.split()[0]
    refused(DataError, f"{name} is of class 7, but the network has 7 classes, 0 to 6", f"{name} 7\n")
    refused(DataError, "1 of the 15 images that .* are missing: lost.png", listing + "lost.png 1\n")
    refused(DataError, "lists no image", "\n")
    (miniature.root / "val" / "broken.JPEG").write_bytes(b"no picture")
    refused(DataError, "broken.JPEG: cannot be read as an image", "broken.JPEG 1\n")
    (miniature.root / "val" / "broken.JPEG").unlink()
    (miniature.root / "torn.onnx").write_bytes((miniature.root / "net.onnx").read_bytes()[:100])
    refused(ExportError, "torn.onnx", **{"net.onnx": "torn.onnx"})
    write_network(miniature.root / "small.onnx", np.ones((7, 3)), side=192)
    refused(ExportError, "192", **{"net.onnx": "small.onnx"})
    refused(ConfigError, "top_k: 9, but the network has 7 classes", **{"top_k: 1": "top_k: 9"})


def test_any_network_on_the_test_images_of_a_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores of a network of one matrix are computed here from the run's images themselves."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from bnas.commands.project import open_project
    from bnas.data import batches

    monkeypatch.chdir(tmp_path)
    overrides = (
        "name=none",
        "data.train_images=100",
        "data.val_images=50",
        "data.test_images=60",
        "threads=1",
    )
    project = open_project(Invocation(command="check", conf="quickstart", overrides=overrides))
    images, labels = next(batches(project.data.test, 60))
    weights = np.random.default_rng(0).standard_normal((images[0].numel(), 10)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "matrix",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *images.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "matrix.onnx"
    )
    check(*overrides, "output=out.json", conf="quickstart", arguments=("matrix.onnx",))
    scores = images.flatten(1).numpy() @ weights
    order = np.argsort(-scores, axis=1)
    expected = tuple(int((order[:, :k] == labels.numpy()[:, None]).any(1).sum()) for k in (1, 5))
    assert counts(read_json("out.json", Checks)) == [expected]
    assert not (tmp_path / "runs").exists()
    with pytest.raises(RunError, match=r"there is no lost.xml, neither here nor in runs/none"):
        check(*overrides, conf="quickstart", arguments=("lost.xml",))
    with pytest.raises(ConfigError, match="check: which network"):
        check(*overrides, conf="quickstart")


def test_the_networks_of_a_run_have_the_accuracy_that_verify_found(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    out = tmp_path / "out.json"
    check(f"output={out}", arguments=("subnets/A/int8.xml", "subnets/A/fp32.xml"))
    verified = json.loads((finished / "runs" / "mini" / "verified.json").read_text())["networks"]["A"]
    found = read_json(out, Checks).checks
    for each, kind in zip(found, ("int8", "fp32"), strict=True):
        assert each.scores[0].percent == pytest.approx(verified[kind]["metric_percent"])
        assert all("is what guessing among 10 classes gives" in note for note in each.notes)
    assert found[1].compared_with == "subnets/A/int8.xml"
