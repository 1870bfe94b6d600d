"""The model card of a subnet: what it is, how good and how fast, and everything that makes it again.

Mitchell et al. 2019, "Model cards for model reporting": a page that goes with a network. `to_plain(ModelCard)` is
`card.json`; `bnas.report.card_text` writes the same as Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnas.report.words import significant

NOT_KNOWN = "not known"
SMALL_SET = 100_000  # training images, below which a card says that the set is small


@dataclass(frozen=True, kw_only=True)
class CardArtefact:
    """One exported file of a network, as it was checked beside the torch module.

    `name`: what the run calls it ("int8", "fp32", "fp32.onnx"). `path` is relative to the run folder, `digest` the
    SHA-256 of all its files in turn. `largest_difference` is a fraction of the module's largest |output|.
    """

    name: str
    path: str
    format: str
    precision: str
    digest: str
    size_bytes: int
    largest_difference: float | None = None
    agreement_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class CardNetwork(CardArtefact):
    """An artefact as it was verified: test accuracy, and latency in the interleaved run.

    `metric_percent` is followed by its 95 % interval, None where none is known. `details`: what else the task tells of
    it, by name, as a detector's precision by the size of objects. `time_ms` is the median of all calls; `ratio` that to
    the INT8 original, round by round, and `ratio_error_percent` how far its 95 % interval goes to the farther side.
    """

    metric_percent: float
    metric_low_percent: float | None
    metric_high_percent: float | None
    time_ms: float
    p10_ms: float
    p90_ms: float
    p99_ms: float
    ratio: float
    ratio_error_percent: float
    converged: bool
    rounds: int
    calls: int
    throughput_per_s: float
    details: Mapping[str, float] = field(
        default_factory=dict, hash=False, metadata={"plain": "unless default"}
    )

    @property
    def reach(self) -> float | None:
        """Half the width of the interval, in points."""
        if self.metric_low_percent is None or self.metric_high_percent is None:
            return None
        return (self.metric_high_percent - self.metric_low_percent) / 2


@dataclass(frozen=True, kw_only=True)
class CardData:
    """The images: of which set, how many in each split, of what shape (channels, height, width), and their classes.

    `val` decided everything; `test` decided nothing, and is what accuracies are on. `mean` and `std` normalise values
    from 0 to 1, of all channels or of each; None: not known.
    """

    name: str
    train_images: int
    val_images: int
    test_images: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What ranges of activations were taken from: `images` of the split `split`; and the quantizer's options.

    `norm_images` of the training split gave the batch norms their statistics; None: those that training left were kept.
    """

    images: int
    split: str
    norm_images: int | None
    quantizer: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class CardFile:
    """A file with its SHA-256 in hex, as `sha256sum` prints it; `path` is relative to the run folder."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Of what, which licence ("not known" where the run does not know), and how that is known."""

    of: str
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, to be typed where the run was made, and what it does."""

    does: str
    command: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """`subnets/<name>/card.json`.

    config: value of each choice; None: the original network. diff: the choices in which it differs from the original,
        and the costs of both, as `show diff` prints them; empty for the original.
    networks: its exported files as they were verified, the INT8 one first. original: those of the original network,
        beside which they were timed; empty for the original. others: files in further formats, checked, not timed.
    weights: where the original network's weights came from, in words. space: digest of the search space.
    shape: channels, height and width of the images that this network takes.
    made_by, rebuilt_by: command lines. options: the run's, all of them, as in config.yaml.
    hardware: that of verified.json. timing: the options that it was timed with. versions: of packages, by name.
    metric, metric_label: what the task is judged by, its unit included, and what people call that.
    """

    run: str
    name: str
    task: str
    metric: str = "top1_percent"
    metric_label: str = "top-1"
    model: Mapping[str, Any] = field(hash=False)
    weights: str
    config: Mapping[str, int] | None = field(hash=False)
    diff: str
    space: str
    shape: tuple[int, ...]
    macs: int
    parameters: int
    original_macs: int
    original_parameters: int
    networks: tuple[CardNetwork, ...]
    original: tuple[CardNetwork, ...]
    others: tuple[CardArtefact, ...]
    speedup_vs_int8: float
    speedup_vs_fp32: float
    data: CardData
    calibration: Calibration
    hardware: Mapping[str, Any] = field(hash=False)
    timing: Mapping[str, Any] = field(hash=False)
    made_by: tuple[Command, ...]
    rebuilt_by: tuple[Command, ...]
    files: tuple[CardFile, ...]
    licences: tuple[Licence, ...]
    versions: Mapping[str, str] = field(hash=False)
    options: Mapping[str, Any] = field(hash=False)
    notes: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[str, ...]:
        """What a reader must not make of the numbers, in sentences."""
        return _limits(self)


def _limits(card: ModelCard) -> tuple[str, ...]:
    data = card.data
    told: list[str] = []
    size = "×".join(map(str, data.shape[1:]))
    if data.train_images < SMALL_SET:
        told.append(
            f"The data set is small: {data.train_images:,} training images of {len(data.classes)} classes at {size} "
            "pixels. What a subnet loses, or gains, may be otherwise on a larger or harder one."
        )
    known = [own.reach for own in card.networks if own.reach is not None]
    if known:
        told.append(
            f"Accuracies are on {data.test_images:,} test images and known to about ±{max(known):.1f} points; "
            "networks that differ by less cannot be told apart by them alone."
        )
    else:
        told.append(
            f"How far {card.metric_label} on {data.test_images:,} test images is from that on many more is not known: "
            "small differences between networks may be chance."
        )
    told.append(
        "Latencies are of the one machine above, with nothing else on it, and hold for no other; "
        "python -m bnas verify --force measures them anew on yours."
    )
    far = [own for own in card.networks if not own.converged]
    if far:
        worst = max(own.ratio_error_percent for own in far)
        told.append(
            f"The timing ended before its error was as small as asked for: it is ±{significant(worst)} %."
        )
    told.append(
        "Nothing else was tested: no images from elsewhere, disturbed or hostile ones, and no groups of people."
    )
    return (*told, *(f"{note[:1].upper()}{note[1:]}." for note in card.hardware.get("notes", ())))
