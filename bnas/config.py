"""All options of a run: each stage's own section, gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnas.cluster import RayConfig
from bnas.data import DataConfig
from bnas.errors import ConfigError
from bnas.export import AimetEncodings, ExportConfig, OpenVinoIR
from bnas.load import LoadConfig
from bnas.measure import HwConfig, MeasureConfig
from bnas.models import ModelConfig
from bnas.quantize import NncfPTQ, QuantizeConfig
from bnas.search import SearchConfig
from bnas.space import SpaceRules
from bnas.train import FinetuneConfig, PretrainConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(SpaceRules):
    """The rules of the space, and what `build` does with it.

    `file` is a search space that is taken instead of the rules' (a search_spaces/*.json, perhaps edited by
    hand). `random_subnets` is how many random subnets, besides the smallest and the largest, have to run.
    `kernel_transform`: smaller kernels are learned transforms of the centre of larger ones, not the plain
    centre (Cai et al. 2020, §3.3).
    """

    file: str | None = None
    random_subnets: int = 2
    kernel_transform: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_subnets < 0:
            raise ConfigError(f"random_subnets: expected at least 0, got {self.random_subnets}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run.

    `name` names its folder below `runs`. One `seed` rules everything random. `threads` of torch in each process
    (0: all cores, divided among torchrun's processes on a machine). `plugins` are modules of your own, imported
    first, that enter further parts into bnas's tables.
    `loss_points`: how many points of accuracy subnet B may lose against the original network; on the
    validation images it has to stay `loss_margin_points` clear of that, because the loss on other images differs:
    by about √(d / n), d the share of images on which the two networks disagree (.08 and n = 2 000: .6 points).
    `front_size`: how many members of the front at most are verified on the device.
    """

    name: str
    runs: str = "runs"
    seed: int = 0
    threads: int = 0
    plugins: tuple[str, ...] = ()
    loss_points: float = 1.0
    loss_margin_points: float = 0.5
    front_size: int = 16
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    space: SpaceOptions = field(default_factory=SpaceOptions)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    hw: HwConfig = field(default_factory=HwConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    quantize: QuantizeConfig = field(default_factory=NncfPTQ)
    export: ExportConfig = field(default_factory=OpenVinoIR)
    load: LoadConfig = field(default_factory=LoadConfig)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name: expected the name of a folder, got '{self.name}'")
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        if not 0 <= self.loss_margin_points < self.loss_points:
            allowed = f"0 to below loss_points ({self.loss_points:g})"
            raise ConfigError(f"loss_margin_points: expected {allowed}, got {self.loss_margin_points:g}")
        if self.threads < 0:
            raise ConfigError(f"threads: expected 0 (all cores) or more, got {self.threads}")
        if self.front_size < 3:
            raise ConfigError(f"front_size: expected 3 or more, got {self.front_size}")
        if self.quantize.precisions and any(isinstance(own, AimetEncodings) for own in self.export.formats()):
            raise ConfigError(
                "quantize.precisions: AIMET's encodings are of networks quantized alike in all their blocks; leave "
                "aimet out of export and export.also"
            )
