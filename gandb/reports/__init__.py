"""Reports: one table of a model beside its baselines, figures, and one page that holds both."""

from __future__ import annotations

from gandb.reports.comparison import compare, headlines
from gandb.reports.records import (
    CheckShare,
    Curve,
    DatasetSummary,
    Picture,
    Recipe,
    Report,
    Role,
    Run,
)

__all__ = [
    "CheckShare",
    "Curve",
    "DatasetSummary",
    "Picture",
    "Recipe",
    "Report",
    "Role",
    "Run",
    "compare",
    "headlines",
]
