"""Report: the choice of subnets, and the run's result as a table, as JSON and as a page."""

from bnas.report.build import subnet_report, write_report
from bnas.report.chart import print_training
from bnas.report.choose import choice_notes, choose
from bnas.report.latency import write_latency
from bnas.report.latency_chart import print_latency
from bnas.report.latency_curves import write_latency_curves
from bnas.report.latency_words import latency_facts
from bnas.report.table import markdown_table, print_table
from bnas.report.training import write_training
from bnas.report.types import (
    Curve,
    EvaluationPoint,
    FileReport,
    Finetuned,
    FrontPoint,
    Importance,
    LatencyReport,
    PredictorError,
    Report,
    SubnetReport,
    TimedSubnet,
    Training,
    Verified,
)
from bnas.report.words import headline

__all__ = [
    "Curve",
    "EvaluationPoint",
    "FileReport",
    "Finetuned",
    "FrontPoint",
    "Importance",
    "LatencyReport",
    "PredictorError",
    "Report",
    "SubnetReport",
    "TimedSubnet",
    "Training",
    "Verified",
    "choice_notes",
    "choose",
    "headline",
    "latency_facts",
    "markdown_table",
    "print_latency",
    "print_table",
    "print_training",
    "subnet_report",
    "write_latency",
    "write_latency_curves",
    "write_report",
    "write_training",
]
