"""Writing a report to files: the page and its figures, each completely or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from gandb.core.errors import StoreError
from gandb.reports import figures as drawing
from gandb.reports import page
from gandb.reports.records import Report


def publish(report: Report, output: Path | None, folder: Path | None) -> Iterator[Path]:
    """Draw the figures and write them, and the HTML page that holds them; yield each path.

    Raises:
        StoreError: a file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    pictures = drawing.draw_all(report)
    if folder is not None:
        for picture in pictures:
            name = re.sub(r"[^A-Za-z0-9._@-]+", "-", picture.name)
            yield write_file(folder / f"{name}.png", picture.png)
    if output is not None:
        yield write_file(output, page.render(report, pictures).encode())


def write_file(path: Path, data: bytes) -> Path:
    """Write a file completely or not at all; what was there is replaced.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    return path
