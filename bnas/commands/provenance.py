"""Where a run's parts came from: the original network's weights, the licences as far as they are known, versions."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bnas.commands.project import Project
from bnas.models import find_family
from bnas.report.card import NOT_KNOWN, Licence
from bnas.version import __version__

OWN_LICENCE = "Apache-2.0"  # of bnas, as pyproject.toml has it
DATA_LICENCES = {  # data set: its licence, and whose it is
    "embedded": ("MIT", "Fashion-MNIST, Zalando SE; the file LICENCE lies beside the images in bnas"),
    "fashion_mnist": ("MIT", "Fashion-MNIST, Zalando SE"),
}
PACKAGES = (
    "torch",
    "torchvision",
    "openvino",
    "nncf",
    "onnx",
    "onnxruntime",
    "torchao",
    "safetensors",
    "numpy",
)


def origin_of_weights(project: Project) -> str:
    """What the original network's weights came from, in words that follow its name."""
    source = project.weights_source
    if source is None:
        return f"trained by this run on {project.data.name} from random weights"
    digest = _sha256(Path(source).expanduser())
    named = f"the weights {source}" + (f" (SHA-256 {digest})" if digest else "")
    if project.config.model.head == "new":
        return (
            f"started from {named} with a new last layer, and trained on by this run on {project.data.name}"
        )
    return f"with {named}"


def licences(project: Project) -> tuple[Licence, ...]:
    """Of bnas, of the original network's weights, of the data; "not known" where nothing in the run tells."""
    name = project.data.name
    told, source = DATA_LICENCES.get(name, (NOT_KNOWN, f"the images are yours, or others' (data={name})"))
    return (
        Licence(of="bnas", licence=OWN_LICENCE, source=f"bnas {__version__}, file LICENSE"),
        _weights(project),
        Licence(of="data", licence=told, source=source),
    )


def _weights(project: Project) -> Licence:
    source, own = project.weights_source, "weights of the original network"
    if source is None:
        made = "made by this run from random weights: only what the data's licence says of them"
        return Licence(of=own, licence="yours", source=made)
    if source in {weights.name for weights in find_family(project.config.model.name).weights()}:
        published = (
            f"{source} as published by torchvision, whose code is BSD-3-Clause; it says that pretrained weights "
            "may have terms of their own, from the data that they were trained on"
        )
        return Licence(of=own, licence=NOT_KNOWN, source=published)
    return Licence(of=own, licence=NOT_KNOWN, source=f"the file {source} does not say")


def versions() -> dict[str, str]:
    """Of Python, bnas and the packages that made the files, as installed; those that are not are left out."""
    found = {"python": platform.python_version(), "bnas": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str | None:
    """Of a file, where there still is one."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
