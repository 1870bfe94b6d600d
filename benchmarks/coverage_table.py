"""The page docs/coverage.md, made of the rows of `benchmarks.coverage`."""

from __future__ import annotations

from datetime import date

from benchmarks.examine import Row

_INTRODUCTION = """# Coverage

What `bnas build` makes of every network of torchvision, and of a few of other kinds. Made by

```bash
{command}
```

on {day} with torch {torch}, {threads} threads. Widths, depths and kernels are open
(`space.dims=[depth,kernel,width]`), all other rules of the space are the defaults. Weights are random: what is
elastic does not depend on them. Each network is built on one example of the inputs that the table names.

{columns}

Detectors are held against the oracles by the outputs of their heads: which boxes are chosen by them depends on
the last bit of a score.
"""

# What each column says.
_COLUMNS = {
    "network": "its name in `model.name`",
    "inputs": "shapes of the example, by default the family's own",
    "build, s": "seconds for the trace, the space and the super-network; in brackets one forward pass of the "
    "plain network",
    "groups": "width groups that are free, of all; a group is a set of channels that must keep or lose the same "
    "members everywhere. Outputs of the network (`+ n out`) are no choice; a detector's are what its heads write",
    "layers": "convolutions and linear layers of which some input or output channels are free, of all",
    "conv %": "share of the output channels of all convolutions that is in free groups, outputs of the network "
    "aside",
    "linear %": "the same of linear layers",
    "heads": "products of activations (attentions) of which heads may go, of all",
    "blocks": "blocks that may be skipped, because they add something to their input; `+ n` more only keep its "
    "shape, and are skipped only where `space.skip` asks for it",
    "kernels": "choices of a kernel size",
    "size": "log10 of the number of subnets",
    "MMACs": "millions of multiply-accumulates of the largest and of the smallest subnet, for the example",
    "M parameters": "millions of parameters of both",
    "oracles": "promises held by running, by their numbers in [design.md](design.md) §8. 1, 2: the extracted "
    "subnet gives what the activated one gives, and what the whole network gives when nobody reads the dropped "
    "channels. 3: reordering channels changes nothing. 4: the largest subnet is the original, bit for bit. 5: "
    "inactive weights get no gradient. 6: costs are those counted by running. 10: files",
    "refused": "choices that the proof by running took back",
}
_TITLES = {
    "classification": "Classification",
    "segmentation": "Segmentation",
    "detection": "Detection",
    "video": "Video",
    "own": "Networks of other kinds",
}


def page(rows: list[Row], day: date, torch_version: str, threads: int, *, small: bool) -> str:
    """The whole page."""
    columns = "\n".join(f"- **{name}**: {text}." for name, text in _COLUMNS.items())
    parts = [
        _INTRODUCTION.format(
            command=f"python -m benchmarks.coverage{' --small' if small else ''} --threads {threads} --write",
            day=day,
            torch=torch_version,
            threads=threads,
            columns=columns,
        )
    ]
    for task, title in _TITLES.items():
        if of_task := [row for row in rows if row.task == task]:
            parts.append(f"## {title}\n\n{table(of_task)}\n")
    if any(row.reasons for row in rows):
        parts.append(f"## Why groups are frozen\n\nGroups by network and reason.\n\n{reasons(rows)}\n")
    if failed := [row for row in rows if row.error is not None or row.failed]:
        lines = [f"- {row.name}: {row.error or _failures(row)}" for row in failed]
        parts.append("## What fails\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def table(rows: list[Row]) -> str:
    """One line of Markdown for each network."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def reasons(rows: list[Row]) -> str:
    """Why groups are frozen, by network; networks with the same reasons share a line."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.reasons:
            text = "; ".join(f"{reason} ({count})" for reason, count in row.reasons.items())
            found.setdefault(text.replace("|", "\\|"), []).append(row.name)
    lines = ["| networks | reasons (groups) |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {text} |" for text, names in found.items()]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    if row.error is not None:
        return [row.name, row.inputs or "–", f"fails: {row.error}", *["–"] * (len(_COLUMNS) - 3)]
    return [
        row.name,
        row.inputs,
        f"{row.build_s:.2f} ({row.forward_s:.2f})",
        f"{row.free} / {row.groups - row.outputs} + {row.outputs} out",
        f"{row.elastic_layers} / {row.layers}",
        _percent(row.conv_free_percent),
        _percent(row.linear_free_percent),
        f"{row.elastic_attentions} / {row.attentions}" if row.attentions else "–",
        f"{row.residual_blocks}" + (f" + {row.preserving_blocks}" if row.preserving_blocks else ""),
        str(row.kernel_choices),
        f"{row.log10_size:.1f}",
        f"{row.macs / 1e6:.1f} → {row.macs_least / 1e6:.1f}",
        f"{row.parameters / 1e6:.2f} → {row.parameters_least / 1e6:.2f}",
        ", ".join(row.oracles) if not row.failed else f"fails {', '.join(row.failed)}",
        "; ".join(row.refused) or "–",
    ]


def _failures(row: Row) -> str:
    return "; ".join(f"oracle {number}: {row.oracles[number]}" for number in row.failed)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
