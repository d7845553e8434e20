"""Run the benchmark groups, print each figure as it comes, and write ``bench.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

GROUPS = {
    "cli": "tests.benchmarks.bench_cli",
    "cnen": "tests.benchmarks.bench_cnen",
    "crystals": "tests.benchmarks.bench_crystals",
    "geometry": "tests.benchmarks.bench_geometry",
    "history": "tests.benchmarks.bench_history",
    "identity": "tests.benchmarks.bench_identity",
    "import": "tests.benchmarks.bench_import",
    "matgan_2m": "tests.benchmarks.bench_matgan_2m",
    "matgan_quality": "tests.benchmarks.bench_matgan_quality",
    "partition": "tests.benchmarks.bench_partition",
    "relaxation": "tests.benchmarks.bench_relaxation",
    "share": "tests.benchmarks.bench_share",
    "sql": "tests.benchmarks.bench_sql",
    "serve": "tests.benchmarks.bench_serve",
    "structures": "tests.benchmarks.bench_structures",
}
"""Group name to the module whose ``run(report)`` measures it."""


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        name: dotted, unique in a run (``cnen.rate``).
        value: what was measured, in ``unit``.
        unit: of both values; empty for a plain number.
        peer: what it is compared with; empty if with nothing.
        peer_value: the peer's value in the same unit.
        ratio: ``value / peer_value``; None without a peer, or where the peer's value is 0.
    """

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None

    @classmethod
    def of(
        cls, name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None
    ) -> Figure:
        """Check a measurement and take its ratio to the peer's."""
        numbers = [float(value)] if peer_value is None else [float(value), float(peer_value)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name}: {value!r} against {peer_value!r} is not a finite number")
        theirs = numbers[1] if len(numbers) == 2 else None
        return cls(name, numbers[0], unit, peer, theirs, numbers[0] / theirs if theirs else None)


def _show(number: float | None) -> str:
    if number is None:
        return ""
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


WIDTH = 150


class Board:
    """The figures of a run: a line each as they come, a table at the end, and the file."""

    def __init__(self, path: Path, console: Console) -> None:
        self.path = path
        self.console = console
        self.figures: dict[str, Figure] = {}
        self.table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores", box=SIMPLE_HEAD)
        self.table.add_column("figure", no_wrap=True)
        for heading in ("value", "unit", "peer", "peer's value", "ratio"):
            self.table.add_column(
                heading, justify="left" if heading in ("unit", "peer") else "right"
            )

    def report(
        self, name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None
    ) -> None:
        """Take one figure; a name may come once in a run."""
        if name in self.figures:
            raise ValueError(f"{name} was reported twice")
        figure = Figure.of(name, value, unit, peer, peer_value)
        self.figures[name] = figure
        cells = (_show(figure.value), unit, peer, _show(figure.peer_value), _show(figure.ratio))
        self.table.add_row(name, *cells)
        self.console.print(f"  {name:<28} {cells[0]:>14} {unit}", highlight=False)

    def save(self, *, merge: bool) -> None:
        """Write the figures, in place of those of the same names if ``merge``, else of all."""
        rows = json.loads(self.path.read_text()) if merge and self.path.exists() else []
        kept = {row["name"]: row for row in rows}
        kept.update({name: asdict(figure) for name, figure in self.figures.items()})
        partial = self.path.with_suffix(".json.partial")
        partial.write_text(json.dumps([kept[name] for name in sorted(kept)], indent=2) + "\n")
        partial.replace(self.path)


def chosen(only: str) -> list[str]:
    """Return the groups that begin with one of the comma-separated prefixes; all if empty."""
    prefixes = [part for part in only.split(",") if part]
    unknown = [p for p in prefixes if not any(group.startswith(p) for group in GROUPS)]
    if unknown:
        raise SystemExit(f"no benchmark group begins with {unknown}; there are {', '.join(GROUPS)}")
    return [g for g in GROUPS if not prefixes or g.startswith(tuple(prefixes))]


def main(arguments: list[str]) -> None:
    """Run what was asked for; every finished group is saved before the next begins."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"prefixes of groups: {', '.join(GROUPS)}")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a log has no edge
    board = Board(options.output, console)
    groups = chosen(options.only)
    for done, group in enumerate(groups):
        started = time.perf_counter()
        console.print(f"{group} ...", style="dim")
        importlib.import_module(GROUPS[group]).run(board.report)
        console.print(f"  {time.perf_counter() - started:.1f} s", style="dim")
        board.save(merge=bool(options.only) or done > 0)
    console.print(board.table)
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    main(sys.argv[1:])
