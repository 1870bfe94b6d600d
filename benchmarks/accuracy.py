"""What training brings: `python -m benchmarks.accuracy --root FOLDER [--size 64] [--seeds 3] [--keep FOLDER]`.

ResNet-50 on the full Fashion-MNIST set, whose files lie in FOLDER (as for data.root): pretrained here, made a
super-network, trained, and then the test accuracy of the pretrained network, of the largest, the smallest and ten
random subnets, each extracted and its batch norms recalibrated. Every stage is the command line's own, so that a
run that is killed goes on with --keep. With --control the plain network is trained on for as many epochs, too: what
of the gain is longer training. Hours on a CPU at size 32; for a GPU: --size 64 --seeds 3.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np

from benchmarks.outcome import Bar, print_outcome
from bnas import progress
from bnas.commands.project import Project, open_run
from bnas.space import costs
from bnas.supernet import extract_subnet
from bnas.train import evaluate, evaluate_subnet, pretrain, recalibration_batches

RANDOM = 10
OPTIONS = (
    "conf=resnet50",
    "data=fashion_mnist",
    "data.channels=3",
    "space.width_ratios=[0.5,0.75,1.0]",
    "space.depth_min=1",
    "pretrain.epochs=6",
    "pretrain.lr=0.1",
    "pretrain.batch_size=128",
    "pretrain.weight_decay=5e-4",
    "pretrain.checkpoint_seconds=300",
    "train=sandwich",
    "train.teacher=largest",
    "train.distill=0.9",
    "train.temperature=1.0",
    "train.divergence=kl",
    "train.dropout=all",
    "train.optimizer=sgd",
    "train.momentum=0.9",
    "train.batch_size=128",
    "train.weight_decay=5e-4",
    "train.label_smoothing=0.0",
    "train.subnet_gradients=mean",
    "train.clip_norm=5.0",
    "train.watch=0",
    "train.checkpoint_seconds=300",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="the folder with Fashion-MNIST's files")
    parser.add_argument("--size", type=int, default=32, help="pixels that the images are shown at")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=5.0, help="of the super-network's training")
    parser.add_argument("--lr", type=float, default=0.05, help="of the super-network's training")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, and go on with them")
    parser.add_argument("--weights", help="pretrained weights (.safetensors, .pth) instead of training them")
    parser.add_argument("--control", action="store_true", help="also train the plain network on")
    options = parser.parse_args()
    progress.enable()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        runs = [_run(folder, options, seed) for seed in range(options.seeds)]
    figures = {
        key: {"median": median(values), "least": min(values), "most": max(values)}
        for key in runs[0]
        for values in [[run[key] for run in runs]]
    }
    for key, value in figures.items():
        print(f"{key:<40} median {value['median']:.3f}   {value['least']:.3f} … {value['most']:.3f}")
    pretrained, largest, smallest = (
        figures[f"{name}_top1_percent"]["median"] for name in ("pretrained", "largest", "smallest")
    )
    bars = {
        "largest subnet against the pretrained network, points": Bar(value=largest - pretrained, goal=">= 0"),
        "smallest subnet below the pretrained network, points": Bar(
            value=pretrained - smallest, goal="<= 1.1"
        ),
        "the smallest's share of the MACs, percent": Bar(
            value=figures["smallest_macs_percent"]["median"], goal="<= 20"
        ),
    }
    print_outcome("accuracy", {"seeds": options.seeds, "size": options.size, **figures}, bars)


def _run(folder: Path, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One run from pretraining to the table of test accuracies."""
    stage = (
        "{name: sandwich, dims: {depth: 0, width: 0}, sampling: sandwich, subnets_per_step: 3, reorder: true"
    )
    stage += f", epochs: {options.epochs:g}, lr: {options.lr:g}, warmup_epochs: 0.2}}"
    given = [
        *OPTIONS,
        f"name=seed{seed}",
        f"seed={seed}",
        f"threads={options.threads}",
        f"data.root={Path(options.root).resolve()}",
        f"data.size={options.size}",
        f"train.stages=[{stage}]",
        *([f"model.weights={Path(options.weights).resolve()}"] if options.weights else []),
    ]
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "bnas", "train", *given], cwd=folder, check=True)
    seconds = time.monotonic() - begin
    project = open_run(folder / "runs" / f"seed{seed}")
    data, supernet = project.data, project.supernet(trained=True)
    space, graph = supernet.space, supernet.graph
    calibration = recalibration_batches(data.train, 2048, seed=seed)
    rng = np.random.default_rng([seed, RANDOM])
    subnets = {"largest": space.largest, "smallest": space.smallest}
    subnets |= {f"random {number}": space.sample(rng) for number in range(1, RANDOM + 1)}
    whole = costs(graph, space, space.largest).macs
    rows = {"pretrained": (100.0, evaluate(project.original(), data.test))}
    for name, config in subnets.items():
        share = 100 * costs(graph, space, config).macs / whole
        accuracy = evaluate_subnet(lambda c: extract_subnet(supernet, c), config, calibration, data.test)
        rows[name] = (share, accuracy)
    print(
        f"\nseed {seed}: {len(data.train)} training images at {options.size}×{options.size}, {seconds:.0f} s"
    )
    print(f"top-1 on {len(data.test)} test images; the whole network has {whole / 1e6:.1f} M MACs\n")
    print("| network | MACs % | top-1 % |\n|---|---|---|")
    for name, (share, accuracy) in rows.items():
        print(f"| {name} | {share:.1f} | {accuracy:.2f} |")
    print(json.dumps({name: accuracy for name, (_, accuracy) in rows.items()}), flush=True)
    if options.control:
        rows["plain, trained on"] = (100.0, _trained_on(project, options, seed))
        print(f"| plain, trained on | 100.0 | {rows['plain, trained on'][1]:.2f} |", flush=True)
    drawn = [accuracy for name, (_, accuracy) in rows.items() if name.startswith("random")]
    return {
        "pretrained_top1_percent": rows["pretrained"][1],
        "largest_top1_percent": rows["largest"][1],
        "smallest_top1_percent": rows["smallest"][1],
        "smallest_macs_percent": rows["smallest"][0],
        "random_top1_percent_mean": mean(drawn),
        "random_top1_percent_least": min(drawn),
        "random_top1_percent_most": max(drawn),
        "seconds": seconds,
        **({"trained_on_top1_percent": rows["plain, trained on"][1]} if options.control else {}),
    }


def _trained_on(project: Project, options: argparse.Namespace, seed: int) -> float:
    """Test accuracy of the pretrained network after as many more epochs as the super-network had."""
    config = replace(
        project.config.pretrain, epochs=options.epochs, lr=options.lr, warmup_epochs=0.2, schedule="cosine"
    )
    model, folder = project.original(), project.folder.path("checkpoints", "control")
    pretrain(model, project.data, config, seed=seed, checkpoint=folder)
    return evaluate(model, project.data.test)


if __name__ == "__main__":
    main()
