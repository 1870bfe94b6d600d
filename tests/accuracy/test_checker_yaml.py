from __future__ import annotations

from pathlib import Path

import pytest
from miniature_imagenet import IMAGES, MEAN, SEED, STD, Miniature, pickle_of, write_optimized

from bnas.accuracy.checker_dataset import Places
from bnas.accuracy.checker_yaml import Check, read_checks
from bnas.accuracy.steps import Crop, Resize, ReverseChannels
from bnas.errors import BnasError, ConfigError, DataError

BARE = """
models:
  - name: colours
    launchers:
      - framework: openvino
        model: {network}
    datasets:
      - name: mine
        data_source: val
        reader: pillow_imread
        annotation_conversion: {{converter: imagenet, annotation_file: val.txt}}
        {more}
"""


def read(miniature: Miniature, text: str = SEED, annotations: Path | None = None, **changes: str) -> Check:
    places = Places(source=miniature.root, models=miniature.root, annotations=annotations)
    (check,) = read_checks(miniature.yaml(text, **changes), places)
    return check


def bare(miniature: Miniature, more: str = "", network: str = "net.onnx") -> Check:
    return read(miniature, BARE.format(network=network, more=more))


def test_the_seeds_configuration_is_read_as_it_is(miniature: Miniature) -> None:
    check = read(miniature)
    assert check.name == "resnet50_imagenet"
    assert check.network.path == miniature.root / "net.onnx"
    preprocess = check.network.preprocess
    assert preprocess is not None
    assert (preprocess.mean_values, preprocess.scale_values) == (MEAN, STD)
    assert preprocess.reverse_input_channels
    assert check.network.size == (224, 224)
    assert check.data.steps == (
        Resize(size=256, aspect_ratio_scale="greater", use_pillow=True, interpolation="BILINEAR"),
        Crop(size=224, use_pillow=True),
        ReverseChannels(),
    )
    assert check.data.samples.labels == miniature.labels
    assert [(metric.title, metric.k) for metric in check.data.metrics] == [("accuracy@top1", 1)]
    assert check.channels == "RGB"
    notes = "\n".join(check.notes)
    for said in (
        "datasets: indented under the launcher", "mo_params.output: '<Model Name>': the network's first output",
        "annotation: imagenet1000.pickle: not read; labels are those of", "mo_params: done to the images",
    ):  # fmt: skip
        assert said in notes


def test_datasets_where_they_belong_mean_the_same(miniature: Miniature) -> None:
    before, datasets = SEED.split("        datasets:")
    moved = "    datasets:" + datasets.replace("\n            ", "\n        ")
    check = read(miniature, before + moved)
    assert check.data.steps == read(miniature).data.steps
    assert check.data.samples == read(miniature).data.samples
    assert "indented" not in "\n".join(check.notes)


def test_an_ir_has_mo_params_built_in(miniature: Miniature) -> None:
    write_optimized(miniature.root / "net.onnx", miniature.root / "optimized.xml")
    check = read(
        miniature, **{"onnx_model: net.onnx": "model: optimized.xml\n        weights: optimized.bin"}
    )
    assert check.network.preprocess is None
    assert "taken to be built into optimized.xml" in "\n".join(check.notes)
    assert check.channels == "BGR"  # what the file is given; it turns them itself
    file = miniature.yaml(SEED.replace("onnx_model: net.onnx", "model: optimized.xml"))
    places = Places(source=miniature.root, models=miniature.root)
    (told,) = read_checks(file, places, built_in=lambda path: False)
    assert told.network.preprocess is not None


def test_a_pickle_is_never_opened(miniature: Miniature, tmp_path: Path) -> None:
    (miniature.root / "imagenet1000.pickle").write_bytes(pickle_of(tmp_path))
    unknown = {"name: imagenet_1000_classes": "name: mine"}
    with pytest.raises(ConfigError, match=r"annotation: .*imagenet1000.pickle is not read.*val.txt"):
        read(miniature, **unknown)
    with pytest.raises(ConfigError, match=r"-a: .*imagenet1000.pickle is not read"):
        read(miniature, annotations=miniature.root / "imagenet1000.pickle")
    by_folder, by_file = (
        read(miniature, annotations=path, **unknown) for path in (miniature.root, miniature.root / "val.txt")
    )
    assert by_folder.data.samples == by_file.data.samples == read(miniature).data.samples
    assert not (tmp_path / "opened").exists()


def test_definitions_say_what_the_configuration_leaves_open(miniature: Miniature) -> None:
    definitions = miniature.root / "dataset_definitions.yml"
    definitions.write_text(
        """
launchers:
  - {framework: dlsdk, cpu_extensions: AUTO}
datasets:
  - name: another
    data_source: elsewhere
  - name: mine
    annotation: mine.pickle
    annotation_conversion: {converter: imagenet, annotation_file: val.txt, has_background: True}
    data_source: val
    metrics:
    - {name: accuracy@top1, type: accuracy, top_k: 1}
    - {name: acciracy@top5, type: accuracy, top_k: 5, reference: 0.9}
"""
    )
    text = SEED.split("              data_source")[0].replace("imagenet_1000_classes", "mine")
    file, places = miniature.yaml(text), Places(source=miniature.root, models=miniature.root)
    with pytest.raises(BnasError, match="list of images and labels"):
        read_checks(file, places)
    (check,) = read_checks(
        file, Places(source=miniature.root, models=miniature.root, definitions=definitions)
    )
    assert check.data.samples.labels == tuple(label + 1 for label in miniature.labels)
    assert [(metric.title, metric.reference) for metric in check.data.metrics] == [
        ("accuracy@top1", None), ("acciracy@top5", 0.9),
    ]  # fmt: skip
    (named,) = read_checks(miniature.yaml(f"global_definitions: {definitions.name}\n{text}"), places)
    assert named.data.samples == check.data.samples


def test_imagenet_with_a_background_is_known(miniature: Miniature) -> None:
    check = read(miniature, imagenet_1000_classes="imagenet_1001_classes")
    assert check.data.samples.labels == tuple(label + 1 for label in miniature.labels)


def test_class_folders_do_for_a_list(miniature: Miniature, tmp_path: Path) -> None:
    for index, name in enumerate(("b", "a")):
        (tmp_path / "val" / name).mkdir(parents=True)
        first = sorted((miniature.root / "val").iterdir())[index]
        (tmp_path / "val" / name / first.name).write_bytes(first.read_bytes())
    file = miniature.yaml()
    (check,) = read_checks(file, Places(source=tmp_path, models=miniature.root))
    assert check.data.samples.labels == (0, 1)
    assert check.data.samples.classes == ("a", "b")
    assert "labels by the class folders" in "\n".join(check.notes)
    folders = SEED.replace(
        "annotation: imagenet1000.pickle",
        "annotation_conversion: {converter: cls_dataset_folder, data_dir: val}",
    )
    (asked,) = read_checks(miniature.yaml(folders), Places(source=tmp_path, models=miniature.root))
    assert asked.data.samples == check.data.samples


def test_the_network_is_found_in_the_folder_of_m(miniature: Miniature, tmp_path: Path) -> None:
    text = SEED.replace("        onnx_model: net.onnx\n", "")
    net = (miniature.root / "net.onnx").read_bytes()

    def found(models: Path, text: str = text) -> Path:
        (check,) = read_checks(miniature.yaml(text), Places(source=miniature.root, models=models))
        return check.network.path

    (tmp_path / "any.onnx").write_bytes(net)
    assert found(tmp_path) == found(tmp_path / "any.onnx") == tmp_path / "any.onnx"
    assert found(tmp_path / "any.onnx", SEED.replace("net.onnx", "<input_model>")) == tmp_path / "any.onnx"
    (tmp_path / "other.onnx").write_bytes(net)
    with pytest.raises(ConfigError, match=r"one called resnet50_imagenet; it holds any.onnx, other.onnx"):
        found(tmp_path)
    (tmp_path / "resnet50_imagenet.onnx").write_bytes(net)
    assert found(tmp_path) == tmp_path / "resnet50_imagenet.onnx"
    with pytest.raises(ConfigError, match="<input_model> stands for a file"):
        found(tmp_path, SEED.replace("net.onnx", "<input_model>"))
    with pytest.raises(
        ConfigError, match=r"is net.onnx, so -m must be the folder that it is in, got the file"
    ):
        found(tmp_path / "any.onnx", SEED)


def test_a_part_of_the_images(miniature: Miniature) -> None:
    assert len(bare(miniature, "subsample_size: 5").data.samples) == 5
    half = bare(miniature, "subsample_size: 50%")
    assert half.data.samples == bare(miniature).data.samples.spread(IMAGES // 2)
    assert "7 images spread evenly over all 14" in "\n".join(half.notes)


@pytest.mark.parametrize(
    ("text", "place", "error"),
    [
        ("framework: dlsdk", "framework: dlsk", r"launchers\[0\].framework: there is no 'dlsk'; did you mean 'dlsdk'"),
        ("framework: dlsdk", "framework: caffe", "framework: 'caffe' is not run here: convert the network to ONNX"),
        ("framework: dlsdk", "framework: pytorch", "export the module"),
        ("device: CPU", "device: GPU", "device: 'GPU' cannot be used here"),
        ("device: CPU", "devise: CPU", "devise: no such option; did you mean 'device'"),
        ("adapter: classification", "adapter: ssd", "adapter: 'ssd' is for another task"),
        ("adapter: classification", "adapter: {type: classification, argmax_output: True}", "adapter.argmax_output"),
        ("onnx_model: net.onnx", "onnx_model: lost.onnx", "onnx_model: there is no .*lost.onnx"),
        ("onnx_model", "caffe_model", "caffe_model: 'net.onnx' cannot be done here: convert the network to ONNX"),
        ("mean_values", "mean_value", "mo_params.mean_value: no such option; did you mean 'mean_values'"),
        ("(123.675, 116.28,103.53)", "(123.675, 116.28)", "mo_params.mean_values: expected one number or three"),
        ("(58.395, 57.12 , 57.375)", "0", "scale_values: 0 cannot be divided by"),
        ("(1,3,224,224)", "(1,3,224)", r"input_shape: expected one image input, as \(1,3,224,224\)"),
        ("- reverse_input_channels", "- revers_channels", "mo_flags: there is no 'revers_channels'; did you mean"),
        ("reader: pillow_imread", "reader: numpy_reader", "reader: images are not read by 'numpy_reader' here"),
        ("reader: pillow_imread", "reader: skimage_imread", "use pillow_imread"),
        ("reader: pillow_imread", "reader: {type: opencv_imread, reading_flag: gray}", "reader.reading_flag: 'gray'"),
        ("type: bgr_to_rgb", "type: bgr_to_lab", r"preprocessing\[2\].type: 'bgr_to_lab' is not done here"),
        ("type: accuracy", "type: map", r"metrics\[0\].type: 'map' is not counted here"),
        ("top_k: 1", "top_k: 0", r"metrics\[0\].top_k: expected a whole number above 0, got 0"),
        ("top_k: 1", "topk: 1", "topk: no such option; did you mean 'top_k'"),
        ("top_k: 1", "reference: 74.4", "reference: expected a share from 0 to 1, got 74.4"),
        ("data_source: val", "data_source: train", "data_source: no such folder: .*train"),
        ("annotation: imagenet1000.pickle", "postprocessing: [{type: nms}]", "postprocessing: .* top-1 and top-5"),
        ("annotation: imagenet1000.pickle", "subsample_size: many", "subsample_size: expected a number of images"),
        ("  - name: resnet50_imagenet", "  - nam: resnet50_imagenet", "nam: no such option; did you mean 'name'"),
        ("models:", "evaluations:", "evaluations: .* cannot be done here"),
        ("models:", "model:", "model: no such option; did you mean 'models'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    miniature: Miniature, text: str, place: str, error: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=error):
        read(miniature, **{text: place})


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            "annotation_conversion: {converter: mscoco_detection}",
            "converter: 'mscoco_detection' is not read here",
        ),
        (
            "annotation_conversion: {converter: imagenet, annotation_file: a.txt}",
            "annotation_file: there is no .*a.txt",
        ),
        ("annotation_conversion: {converter: imagenet, annotation_file: a.pickle}", "a.pickle is not read"),
        (
            "annotation_conversion: {converter: imagenet, has_background: 1}",
            "has_background: expected True or False",
        ),
        (
            "annotation_conversion: {convertor: imagenet}",
            "convertor: no such option; did you mean 'converter'",
        ),
    ],
)
def test_lists_that_cannot_be_read(miniature: Miniature, more: str, error: str) -> None:
    text = BARE.format(network="net.onnx", more="").replace(
        "annotation_conversion: {converter: imagenet, annotation_file: val.txt}", more
    )
    with pytest.raises((ConfigError, DataError), match=error):
        read(miniature, text)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("models: [", "is no YAML"),
        ("- models", "expected options at its top"),
        ("", "expected options at its top"),
        ("models: []", "models: expected a list of at least one"),
        ("models: [resnet]", r"models\[0\]: expected a mapping"),
        (
            "models: [{name: a, launchers: [{framework: dlsdk}]}]",
            "model: missing; name the network's file, or give it with -m",
        ),
        ("models: !!python/object/apply:os.mkdir [opened]", "is no YAML"),
    ],
)
def test_files_that_are_no_configuration(
    content: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "check.yml").write_text(content)
    with pytest.raises(ConfigError, match=error):
        read_checks(tmp_path / "check.yml", Places())
    assert not (tmp_path / "opened").exists()
    with pytest.raises(ConfigError, match=r"lost.yml does not exist"):
        read_checks(tmp_path / "lost.yml", Places())


def test_an_input_shape_that_the_steps_do_not_lead_to(miniature: Miniature) -> None:
    check = read(miniature, **{"(1,3,224,224)": "(1,3,192,224)"})
    with pytest.raises(
        ConfigError, match=r"input_shape says 224 x 192 pixels, but .* is 224 x 224 when prepared"
    ):
        check.prepare(check.data.samples.paths[0])
