"""Report: the choice of subnets, and the run's result as a table, as JSON and as a page."""

from bnas.report.build import subnet_report, write_report
from bnas.report.choose import choice_notes, choose
from bnas.report.table import markdown_table, print_table
from bnas.report.types import EvaluationPoint, FrontPoint, Report, SubnetReport, Verified
from bnas.report.words import headline

__all__ = [
    "EvaluationPoint",
    "FrontPoint",
    "Report",
    "SubnetReport",
    "Verified",
    "choice_notes",
    "choose",
    "headline",
    "markdown_table",
    "print_table",
    "subnet_report",
    "write_report",
]
