"""A data set laid out as ImageNet's validation images, a network with known answers, and the seed's configuration."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchvision import transforms

CLASSES, IMAGES = 7, 14
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# The accuracy checker's configuration of the BootstrapNAS submission, its `datasets` indented as they are there.
SEED = """
models:
  - name: resnet50_imagenet
    launchers:
      - framework: dlsdk
        device: CPU
        adapter: classification
        onnx_model: net.onnx
        mo_params:
            output: <Model Name>
            mean_values: "(123.675, 116.28,103.53)"
            scale_values: "(58.395, 57.12 , 57.375)"
            input_shape: "(1,3,224,224)"

        mo_flags:
            - reverse_input_channels

        datasets:
            - name: imagenet_1000_classes
              data_source: val
              annotation: imagenet1000.pickle
              reader: pillow_imread

              preprocessing:
              - type: resize
                size: 256
                aspect_ratio_scale: greater
                use_pillow: True
                interpolation: BILINEAR
              - type: crop
                size: 224
                use_pillow: True
              - type: bgr_to_rgb

              metrics:
                - name: accuracy@top1
                  type: accuracy
                  top_k: 1
"""


def pickle_of(folder: Path) -> bytes:
    """A pickle that makes folder/opened when anything unpickles it."""
    return f"cposix\nmkdir\n(V{folder / 'opened'}\ntR.".encode()


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """`root` holds val/*.JPEG and *.png, val.txt and net.onnx; top-k counts are of an independent computation.

    `scores` float64 [images, classes], and `swapped` what the network says when red and blue are exchanged.
    """

    root: Path
    scores: NDArray[np.float64]
    swapped: NDArray[np.float64]
    labels: tuple[int, ...]

    def correct(self, k: int, *, swapped: bool = False) -> int:
        """Images whose label is among the k largest of their scores."""
        order = np.argsort(-(self.swapped if swapped else self.scores), axis=1)[:, :k]
        return sum(label in row for label, row in zip(self.labels, order, strict=True))

    def yaml(self, text: str = SEED, **changes: str) -> Path:
        """The configuration in a file, each `old` text of `changes` replaced."""
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        yaml.safe_load(text)
        file = self.root / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.yml"
        file.write_text(text)
        return file


def make_miniature(root: Path) -> Miniature:
    """14 pictures of all shapes and a network that tells their classes by the mean of each colour.

    What the network says is computed here by torchvision's own transforms and NumPy. Labels are then chosen so that
    image i has its class at rank i mod 7: the top-1 is 2 of 14, the top-5 10 of 14.
    """
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((CLASSES, 3))
    folder = root / "val"
    folder.mkdir()
    to_crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    scores, swapped, names = [], [], []
    for index in range(IMAGES):
        height, width = (int(side) for side in rng.integers(90, 500, 2))
        ramp = np.linspace(0, 1, width)[None, :, None] * rng.uniform(0, 255, 3)
        noise = rng.uniform(0, 60, (height, width, 3)) + rng.uniform(0, 120, 3)
        picture = Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))
        name = f"ILSVRC2012_val_{index + 1:08}.{'png' if index % 3 == 0 else 'JPEG'}"
        picture.save(folder / name)
        names.append(name)
        with Image.open(folder / name) as stored:
            pixels = np.asarray(to_crop(stored.convert("RGB")), np.float64)
        colour = pixels.mean((0, 1))
        scores.append(weights @ ((colour - MEAN) / STD))
        swapped.append(weights @ ((colour[::-1] - MEAN) / STD))
    order = np.argsort(-np.array(scores), axis=1)
    labels = tuple(int(order[index, index % CLASSES]) for index in range(IMAGES))
    lines = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    (root / "val.txt").write_text("\n".join(lines) + "\n")
    write_network(root / "net.onnx", weights)
    return Miniature(root=root, scores=np.array(scores), swapped=np.array(swapped), labels=labels)


def write_network(
    path: Path, weights: NDArray[np.float64], *, batch: int | str = "n", side: int = 224
) -> None:
    """An ONNX network from normalised RGB images [batch, 3, side, side] to weights @ (mean of each channel)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("MatMul", ["means", "weights"], ["scores"]),
    ]
    inputs = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])
    outputs = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, len(weights)])
    constant = numpy_helper.from_array(weights.T.astype(np.float32), "weights")
    graph = helper.make_graph(nodes, "colours", [inputs], [outputs], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_optimized(source: Path, target: Path) -> None:
    """The network as IR with the pre-processing of the seed built in by OpenVINO itself: BGR bytes in."""
    from bnas.export.openvino_runtime import core, openvino

    preprocess = openvino().preprocess
    maker = preprocess.PrePostProcessor(core().read_model(source))
    image = maker.input()
    image.tensor().set_element_type(openvino().Type.u8).set_layout(openvino().Layout("NCHW"))
    image.model().set_layout(openvino().Layout("NCHW"))
    steps = image.preprocess().convert_element_type(openvino().Type.f32)
    steps.reverse_channels().mean(list(MEAN)).scale(list(STD))
    openvino().save_model(maker.build(), target, compress_to_fp16=False)
