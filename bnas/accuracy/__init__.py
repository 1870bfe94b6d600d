"""Accuracy: a network's top-k on labelled images, also as the accuracy checker's own configuration asks for it."""

from __future__ import annotations

from bnas.accuracy.accuracy import Answers, Score, TopK, ask, read_batches
from bnas.accuracy.annotations import Samples, in_class_folders, listed
from bnas.accuracy.checker_dataset import Places
from bnas.accuracy.checker_yaml import Check, read_checks
from bnas.accuracy.intervals import Difference, difference, wilson
from bnas.accuracy.result import Checked, Task, check_all

__all__ = [
    "Answers",
    "Check",
    "Checked",
    "Difference",
    "Places",
    "Samples",
    "Score",
    "Task",
    "TopK",
    "ask",
    "check_all",
    "difference",
    "in_class_folders",
    "listed",
    "read_batches",
    "read_checks",
    "wilson",
]
