"""A run that commands work on: its configuration, its folder, and what earlier stages left there."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as read_weights
from safetensors.torch import save_model as write_weights
from torch import Tensor, nn

from bnas.commands.followers import processes_here
from bnas.commands.invocation import Invocation
from bnas.compose import compose
from bnas.config import RunConfig
from bnas.data import ImageSplits, load_data
from bnas.errors import ConfigError, RunError
from bnas.files import read_json, write_with
from bnas.graph import ChannelGraph
from bnas.measure import HwConfig, MeasureConfig
from bnas.measure.hardware import physical_cores
from bnas.models import Inputs, ModelConfig, load_model, weights_for
from bnas.plain import from_plain
from bnas.run_folder import RunFolder, newest
from bnas.space import SearchSpace, SubnetConfig, has_precisions, uniform, with_precisions
from bnas.supernet import Supernet

NO_DATA = "none"  # conf/data/none.yaml
BUILD = "build"  # the conf of a command line that names a model and no conf
_ANY_MODEL = ("model.name=none",)  # for what does without one, as conf/build.yaml asks for it
MEND_SPACE = "correct it, or leave space.file out"
PRETRAINED = "weights/pretrained.safetensors"
SUPERNET = "weights/supernet.safetensors"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a stage made: paths in the run folder, and the one line that says so."""

    paths: tuple[str, ...]
    line: str


FOLLOWED = Made(paths=(), line="")  # what a stage is to a process that only took part in its training


@dataclass(frozen=True)
class Project:
    """One run, opened. Everything that takes time is made when it is first asked for."""

    config: RunConfig
    plain: Mapping[str, Any]
    folder: RunFolder

    @cached_property
    def data(self) -> ImageSplits:
        """The images of the run.

        Raises:
            ConfigError: it has none (data=none), or the model's options contradict them.
        """
        if self.config.data.name == NO_DATA:
            raise ConfigError("data: this run has none; give it some, as in data=embedded")
        data = load_data(self.config.data)
        for option, found in (("num_classes", len(data.train.classes)), ("shape", data.train.shape)):
            asked = getattr(self.config.model, option)
            if asked is not None and asked != found:
                raise ConfigError(f"model.{option}: {asked}, but data={data.name} has {found}; leave it out")
        return data

    @property
    def weights_source(self) -> str | None:
        """Where the original network's weights come from; None: the run pretrains it."""
        return weights_for(self.config.model, len(self.data.train.classes))

    def fresh_model(self, *, weights: bool = False) -> tuple[nn.Module, Inputs]:
        """The network as its family makes it, with its published weights if asked, and example inputs.

        They are made for the run's data; without data for what the model's options, or its family, say.
        """
        config = self.config.model if weights else replace(self.config.model, weights="none")
        if self.config.data.name == NO_DATA:
            return load_model(config, seed=self.config.seed)
        images = self.data.train
        return load_model(config, num_classes=len(images.classes), shape=images.shape, seed=self.config.seed)

    @property
    def fresh_config(self) -> ModelConfig:
        """What makes the network for the run's data anywhere, with fresh weights."""
        config = replace(self.config.model, weights="none", head="same")
        if self.config.data.name == NO_DATA:
            return config
        images = self.data.train
        return replace(config, num_classes=len(images.classes), shape=images.shape)

    @property
    def space_file_digest(self) -> str | None:
        """Digest of the search space's file that the options name, None where they name none."""
        path = self.config.space.file
        return None if path is None else read_json(path, SearchSpace, mend=MEND_SPACE).digest

    @property
    def example(self) -> Tensor:
        """One random image [1, C, H, W]; without data the model's own example input."""
        if self.config.data.name == NO_DATA:
            _, inputs = self.fresh_model()
            if not isinstance(inputs, tuple) or len(inputs) != 1:
                raise ConfigError("model.inputs: networks with one input can be timed; this one has others")
            example: Tensor = inputs[0]
            return example
        generator = torch.Generator().manual_seed(self.config.seed)
        return torch.randn(1, *self.data.train.shape, generator=generator)

    def original(self) -> nn.Module:
        """The original network with the weights that `pretrain` left."""
        model, _ = self.fresh_model()
        return self.read_weights(model, PRETRAINED, "pretrain")

    @cached_property
    def graph(self) -> ChannelGraph:
        return read_json(self.folder.path("graph.json"), ChannelGraph)

    @cached_property
    def elastic_space(self) -> SearchSpace:
        """The super-network's own space."""
        return read_json(self.folder.path("space.json"), SearchSpace)

    @cached_property
    def space(self) -> SearchSpace:
        """What is measured and searched: the super-network's space, with precisions of blocks where they are chosen."""
        precisions = self.config.quantize.precisions
        return (
            with_precisions(self.elastic_space, self.graph, precisions) if precisions else self.elastic_space
        )

    @property
    def original_config(self) -> SubnetConfig:
        """The original network as it is deployed for comparison: in INT8."""
        space, int8 = self.space, ("int8_channel", "int8_tensor")
        if not has_precisions(space):
            return space.largest
        return uniform(
            space, space.largest, next(own for own in int8 if own in self.config.quantize.precisions)
        )

    def supernet(self, *, trained: bool) -> Supernet:
        """The super-network with the weights of `train`, or with those it is made with."""
        model, _ = self.fresh_model()
        transform = self.config.space.kernel_transform
        supernet = Supernet(model, self.graph, self.elastic_space, kernel_transform=transform)
        if trained:
            self.read_weights(supernet.trained, SUPERNET, "train")
        return supernet

    def read_weights(self, model: nn.Module, name: str, command: str) -> nn.Module:
        """Fill `model` from a safetensors file of the run.

        Raises:
            RunError: the file is missing, damaged or of another model; says which command makes it.
        """
        path = self.folder.path(name)
        try:
            read_weights(model, path)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise RunError(
                f"{path} cannot be read ({reason}); make it again with: python -m bnas {command} --force"
            ) from error
        return model.eval()

    def write_weights(self, model: nn.Module, name: str) -> None:
        """Write the state of `model` to a safetensors file of the run."""
        write_with(self.folder.path(name), lambda path: write_weights(model, str(path)))

    @property
    def hw_folder(self) -> str:
        """The part of the run folder's paths that belongs to the hardware."""
        return self.config.hw.name


def hw_options(invocation: Invocation) -> tuple[HwConfig, MeasureConfig]:
    """The options about hardware and measuring of a command line that may do without a run."""
    latest = None
    if invocation.conf is None:
        with suppress(RunError):  # no run yet
            latest = newest(Path(_given(invocation).get("runs", "runs")))
    if latest is not None:
        plain = _gone_on_with(latest, invocation)
    else:
        plain = compose(invocation.conf or BUILD, (*_ANY_MODEL, *invocation.overrides), invocation.hw)
    import_plugins(plain.get("plugins") or ())
    hw = from_plain(HwConfig, plain.get("hw", {}), "hw")
    return hw, from_plain(MeasureConfig, plain.get("measure", {}), "measure")


def check_can_be_reported(hw: HwConfig) -> None:
    """Raise ConfigError for hardware that can be measured, but not searched and reported for."""
    # A plugin's backend may read OpenVINO's files, which is what a run exports; ONNX Runtime does not.
    backend = "openvino" if hw.backend == "onnxruntime" else hw.backend
    wanted = HwConfig(name=hw.name, backend=backend, threads=hw.threads, cpus=hw.cpus)
    for option in fields(HwConfig):
        asked, allowed = getattr(hw, option.name), getattr(wanted, option.name)
        if asked != allowed:
            raise ConfigError(
                f"hw.{option.name}: expected {allowed!r}, got {asked!r}: a run is searched and reported for the "
                "INT8 latency of one image, timed here by OpenVINO, as with --hw cpu; "
                "measure takes others as well"
            )


def open_project(invocation: Invocation) -> Project:
    """The run that a command line is about: of `conf=`, or the newest one with the overrides on top.

    A command line with `model=` and no conf is about that model alone, by conf/build.yaml; the run is then
    called like the model.

    Raises:
        ConfigError, RunError: options that do not exist or do not fit; no run yet.
    """
    conf, given = invocation.conf, _given(invocation)
    if conf is None and {"model", "model.name"} & set(given):
        conf = BUILD
    if conf is not None:
        plain = compose(conf, invocation.overrides, invocation.hw)
        plain.setdefault("runs", "runs")
        if conf == BUILD and "name" not in given:
            plain["name"] = str(plain["model"]["name"]).replace(":", ".")
    else:
        latest = newest(Path(given.get("runs", "runs")))
        plain = _gone_on_with(latest, invocation)
        plain.setdefault("runs", str(latest.root.parent))
    project = _from_plain(plain)
    if conf is None and project.folder.root != latest.root and not project.folder.exists():
        raise RunError(f"{project.folder} does not exist; start it with: python -m bnas run conf=… name=…")
    return project


def _given(invocation: Invocation) -> dict[str, str]:
    return dict(override.partition("=")[::2] for override in invocation.overrides)


def _gone_on_with(latest: RunFolder, invocation: Invocation) -> dict[str, Any]:
    """The options of a run with those of the command line on top.

    A quantizer or exporter of another kind takes the place of the run's, with its own options. So does hardware that
    this names: nothing of another runtime or scenario is left. Only `threads` and `cpus` stay where it leaves them
    open, as they are about the machine.
    """
    plain = latest.config()
    if not (invocation.overrides or invocation.hw):
        return plain
    run, former = plain, plain.get("hw", {})
    plain = compose(str(latest.path("config.yaml")), invocation.overrides, invocation.hw)
    given = _given(invocation)
    for name, section in plain.items():
        if (
            isinstance(section, dict)
            and "kind" in section
            and section["kind"] != run.get(name, {}).get("kind")
        ):
            own = [word for word in invocation.overrides if word.startswith((f"{name}=", f"{name}."))]
            plain[name] = compose(BUILD, (*_ANY_MODEL, *own))[name]
    chosen = invocation.hw or given.get("hw", "")
    if chosen and chosen[0] not in "{[":
        own = [override for override in invocation.overrides if override.startswith("hw.")]
        plain["hw"] = hw = compose(BUILD, (*_ANY_MODEL, *own), chosen)["hw"]
        if hw.get("where", "here") == former.get("where", "here"):
            for name in ("threads", "cpus"):
                if former.get(name) and not hw.get(name) and f"hw.{name}" not in given:
                    hw[name] = former[name]
    return plain


def open_run(path: str | Path) -> Project:
    """The run in a folder, as it was left.

    Raises:
        RunError: there is no run in that folder.
    """
    folder = RunFolder(Path(path))
    return _from_plain(folder.config(), folder)


def _from_plain(plain: dict[str, Any], folder: RunFolder | None = None) -> Project:
    import_plugins(plain.get("plugins") or ())
    config = from_plain(RunConfig, plain)
    torch.set_num_threads(config.threads or max(1, physical_cores() // processes_here()))
    return Project(config, plain, folder or RunFolder(Path(config.runs) / config.name))


def import_plugins(names: Iterable[str]) -> None:
    """Import the user's own modules, which enter their parts in bnas's tables.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # the user's own module may raise anything
            raise ConfigError(f"plugins: {name} cannot be imported: {error}") from error
