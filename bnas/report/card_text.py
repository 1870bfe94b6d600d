"""A model card as Markdown. Names that a person gave are escaped: they are text, never markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from bnas.report.card import CardArtefact, CardNetwork, Command, ModelCard
from bnas.report.words import faster, quantity_name, short, significant, size

CLASSES = 20  # that are listed by name
_AGREEMENT = "agreement with the torch module, %"
_MARKUP = re.compile(r"([\\`*_\[\]<>|~$&])")
_AT_START = re.compile(r"^([-+#=]|\d+(?=[.)]))")  # of a line these begin a list or a heading


def card_markdown(card: ModelCard) -> str:
    """The card as Markdown (GitHub's, with tables); each command is a block of its own."""
    own = f"subnet {escaped(card.name)}" if card.config is not None else "the original network"
    parts = [
        f"# {escaped(card.run)}: {own}",
        _summary(card),
        "## Architecture",
        _architecture(card),
        "## Accuracy and latency",
        _numbers(card),
        _conditions(card),
        *((_others(card),) if card.others else ()),
        "## Calibration",
        _calibration(card),
        "## Commands",
        *_commands(card),
        "## Files",
        _files(card),
        "## Licences",
        _table(("of", "licence", "how that is known"), ((x.of, x.licence, x.source) for x in card.licences)),
        "## Limits",
        _list(card.limits),
        *(("## Notes", _list(card.notes)) if card.notes else ()),
        "## Versions",
        _table(("package", "version"), card.versions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML reads as markup."""
    line = "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())
    return _AT_START.sub(_at_start, _MARKUP.sub(r"\\\1", line))


def _at_start(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def block(text: str, language: str = "") -> str:
    """`text` word for word, whatever backticks are in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _summary(card: ModelCard) -> str:
    network = card.networks[0]
    told = (
        f"{escaped(card.model.get('name'))} for {len(card.data.classes)} classes of images of "
        f"{'×'.join(map(str, card.shape))} (channels, height, width), {short(card.macs)} MACs, "
        f"{short(card.parameters)} parameters. {_precision(network)}: "
        f"{escaped(card.metric_label)} {network.metric_percent:.2f} %{_in_brackets(network)} on "
        f"{card.data.test_images:,} test images of {escaped(card.data.name)}, {significant(network.time_ms)} ms "
        "per image"
    )
    if not card.original:
        return f"{told}."
    return f"{told}: {faster(card.speedup_vs_int8)} the INT8 original, {faster(card.speedup_vs_fp32)} the FP32 one."


def _in_brackets(network: CardNetwork) -> str:
    return "" if network.reach is None else f" ({_interval(network)} %, 95 % interval)"


def _architecture(card: ModelCard) -> str:
    name = f"{escaped(card.model.get('name'))}{_with_options(card.model)}"
    origin = f"The original network is {name}, {escaped(card.weights)}."
    if card.config is None:
        return f"{origin} This is that network."
    costs = (
        f"MACs {card.macs:,} instead of {card.original_macs:,}, parameters {card.parameters:,} instead of "
        f"{card.original_parameters:,}. Search space {card.space}."
    )
    return f"{origin} What is other in this subnet:\n\n{block(card.diff)}\n\n{costs}"


def _with_options(model: Mapping[str, Any]) -> str:
    options = model.get("options")
    return f" with {escaped(json.dumps(options, ensure_ascii=False))}" if options else ""


def _numbers(card: ModelCard) -> str:
    networks = [(escaped(card.name), own) for own in card.networks]
    networks += [("original", own) for own in card.original]
    details = dict.fromkeys(name for _, own in networks for name in own.details)
    rows: list[tuple[str, Callable[[CardNetwork], str]]] = [
        ("file", lambda own: own.path),
        (f"{card.metric_label}, %", lambda own: f"{own.metric_percent:.2f}"),
        ("its 95 % interval", _interval),
        *((quantity_name(name), partial(_detail, name)) for name in details),
        ("latency, ms (median)", lambda own: significant(own.time_ms, 4)),
        (
            "10th to 90th percentile",
            lambda own: f"{significant(own.p10_ms, 4)} to {significant(own.p90_ms, 4)}",
        ),
        ("99th percentile", lambda own: significant(own.p99_ms, 4)),
        (
            "latency ÷ that of the INT8 original",
            lambda own: f"{significant(own.ratio, 4)} ± {significant(own.ratio_error_percent, 2)} %",
        ),
        ("images/s, many at once", lambda own: significant(own.throughput_per_s, 4)),
        ("file size", lambda own: size(own.size_bytes)),
        (_AGREEMENT, lambda own: _or_dash(own.agreement_percent, 2)),
        ("largest difference from it", lambda own: _or_dash(own.largest_difference, None)),
    ]
    heads = ("", *(f"{name} {_precision(own)}" for name, own in networks))
    return _table(
        heads, ((what, *(cell(own) for _, own in networks)) for what, cell in rows), heads_escaped=True
    )


def _others(card: ModelCard) -> str:
    checked = (_AGREEMENT, "largest difference from it")
    heads = ("further file", "format", "precision", "size", *checked)
    rows = (
        (
            own.path,
            own.format,
            _precision(own),
            size(own.size_bytes),
            _or_dash(own.agreement_percent, 2),
            _or_dash(own.largest_difference, None),
        )
        for own in card.others
    )
    return _table(heads, rows)


def _interval(network: CardNetwork) -> str:
    if network.metric_low_percent is None or network.metric_high_percent is None:
        return "–"
    return f"{network.metric_low_percent:.2f} to {network.metric_high_percent:.2f}"


def _detail(name: str, network: CardNetwork) -> str:
    return _or_dash(network.details.get(name), 2)


def _or_dash(value: float | None, digits: int | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2g}" if digits is None else f"{value:.{digits}f}"


def _precision(network: CardArtefact) -> str:
    return network.precision.upper().replace("F", "FP")


def _conditions(card: ModelCard) -> str:
    hw, timing, data = card.hardware, card.timing, card.data
    cpus = ", ".join(map(str, hw.get("cpus", ()))) or "any (not pinned)"
    threads, first = timing.get("threads"), card.networks[0]
    return (
        f"Accuracy: {data.test_images:,} images of the test split of {escaped(data.name)}, which decided nothing; "
        f"{data.val_images:,} images of the validation split decided. Classes: {_classes(data.classes)}. "
        f"{_normalisation(card)}\n\n"
        f"Latency: {escaped(hw.get('cpu', ''))}, {threads} thread{'s' * (threads != 1)} on CPU {cpus}, batch "
        f"{timing.get('batch')}, {escaped(hw.get('runtime', ''))} {escaped(hw.get('runtime_version', ''))}, "
        f"{escaped(hw.get('os', ''))}, {hw.get('memory_gib')} GiB; instruction sets "
        f"{escaped(' '.join(hw.get('flags', ())))}. All networks in one interleaved run, {first.rounds} rounds, "
        f"{first.calls} calls of {escaped(first.path)}."
    )


def _normalisation(card: ModelCard) -> str:
    mean, std = card.data.mean, card.data.std
    if mean is None or std is None:
        return "How images are normalised is not known."
    told = (", ".join(significant(value, 4) for value in values) for values in (mean, std))
    return "Images are values from 0 to 1, less {}, divided by {}.".format(*told)


def _classes(names: tuple[str, ...]) -> str:
    more = f" … ({len(names) - CLASSES} more, in card.json)" if len(names) > CLASSES else ""
    return ", ".join(map(escaped, names[:CLASSES])) + more


def _calibration(card: ModelCard) -> str:
    own = card.calibration
    told = f"INT8 ranges are of {own.images:,} images of the {own.split} split."
    if own.norm_images is not None:
        of = "it" if own.split == "training" else "the training split"
        told += f" Batch norms have their statistics from {own.norm_images:,} images of {of}."
    options = block(json.dumps(own.quantizer, indent=1, ensure_ascii=False), "json")
    return f"{told} The quantizer's options:\n\n{options}"


def _commands(card: ModelCard) -> Iterable[str]:
    yield "It was made by these, in order; all options of the run are in config.yaml, and in card.json."
    yield block("\n".join(own.command for own in card.made_by), "bash")
    for own in card.rebuilt_by:
        yield from (f"{escaped(own.does)}:", _bash(own))


def _bash(own: Command) -> str:
    return block(own.command, "bash")


def _files(card: ModelCard) -> str:
    lines = "\n".join(f"{own.sha256}  {own.path}" for own in card.files)
    return f"SHA-256, as `sha256sum` prints it in the run folder.\n\n{block(lines)}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, heads_escaped: bool = False) -> str:
    first = list(heads) if heads_escaped else [escaped(head) for head in heads]
    lines = [first, ["---"] * len(first), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)
