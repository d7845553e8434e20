"""What was said of all candidates of checkpoints: records of a report's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gandb.reports.records import Role

if TYPE_CHECKING:
    from gandb.reports.sun import SunTable


@dataclass(frozen=True, eq=False)
class Stable:
    """How many candidates of a checkpoint are stable, unique and new."""

    label: str
    role: Role
    table: SunTable


@dataclass(frozen=True, eq=False)
class Coverage:
    """How the candidates of a checkpoint cover a set of real structures.

    Attributes:
        label: what the report calls the checkpoint.
        role: model or baseline.
        against: the real set and the cut-offs.
        n_samples: N.
        n_compared: samples with fingerprints.
        n_valid: valid samples behind Wasserstein distances.
        n_reference: real structures.
        recipe: id of the recipe of COV.
        values: metrics by name.
    """

    label: str
    role: Role
    against: str
    n_samples: int
    n_compared: int
    n_valid: int
    n_reference: int
    recipe: str
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Judgements:
    """Both, for all checkpoints of a report."""

    stable: tuple[Stable, ...] = ()
    coverage: tuple[Coverage, ...] = ()
