from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from gandb.core.elements import MAX_Z
from gandb.reports import Picture, Report, Role, compare, element_maps, figures
from gandb.reports.canvas import drawing, styles, to_png
from gandb.reports.comparison import Block
from tests.reports import samples


def first_block(report: Report | None = None) -> Block:
    return compare(report or samples.report())[0]


def chunks(png: bytes) -> dict[bytes, bytes]:
    """Read the chunks of a PNG, checking each checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found: dict[bytes, bytes] = {}
    place = 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack(">I", png[place + 8 + length : place + 12 + length])
        assert zlib.crc32(kind + data) == checksum
        found[kind] = data
        place += 12 + length
    return found


@pytest.fixture(scope="module")
def pictures() -> tuple[Picture, ...]:
    return figures.draw_all(samples.report())


def test_every_training_set_has_every_figure(pictures: tuple[Picture, ...]) -> None:
    assert [picture.name for picture in pictures] == [
        f"{kind}-{ref}"
        for ref in ("mp@1", "oqmd@2")
        for kind in ("checks", "uniqueness", "training", "elements-MatGAN", "element-counts")
    ]
    for picture in pictures:
        assert picture.alt.endswith(".")
        assert "100,000" in picture.caption or picture.name.startswith("training")


def test_images_are_150_dpi_without_date_or_program(pictures: tuple[Picture, ...]) -> None:
    for picture in pictures:
        found = chunks(picture.png)
        assert set(found) <= {b"IHDR", b"IDAT", b"IEND", b"pHYs"}
        across, down, unit = struct.unpack(">IIB", found[b"pHYs"])
        assert across == down == round(150 / 0.0254)
        assert unit == 1
        width, height = struct.unpack(">II", found[b"IHDR"][:8])
        assert width > 900
        assert height > 500


def test_the_same_report_is_the_same_bytes(pictures: tuple[Picture, ...]) -> None:
    block = first_block()
    assert block.summary is not None
    again = [figures.check_bars(block), figures.training_curves(block)]
    again.append(element_maps.draw(block.summary, block.rows[0]))
    assert again == [pictures[0], pictures[2], pictures[3]]


def test_another_matplotlibrc_changes_nothing(pictures: tuple[Picture, ...]) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        assert figures.check_bars(first_block()) == pictures[0]
        assert matplotlib.rcParams["font.size"] == 20


def test_pyplot_is_not_loaded_and_the_table_needs_no_matplotlib() -> None:
    script = (
        "import sys; import gandb.reports.figures; assert 'matplotlib.pyplot' not in sys.modules\n"
        "for name in [n for n in sys.modules if n.startswith(('matplotlib', 'gandb'))]:\n"
        "    del sys.modules[name]\n"
        "sys.modules['matplotlib'] = None\n"
        "import gandb.reports.tables, gandb.reports.page\n"
        "from gandb.core.errors import MissingExtraError\n"
        "try:\n"
        "    import gandb.reports.figures\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'gandb[report]'" in done.stdout


def test_cells_of_the_map_do_not_overlap() -> None:
    corners = [element_maps.cell_corner(z) for z in range(1, MAX_Z + 1)]
    for i, (x, y) in enumerate(corners):
        for other_x, other_y in corners[:i]:
            assert abs(x - other_x) >= 1 or abs(y - other_y) >= 1


def drawn_map(training: np.ndarray, sampled: np.ndarray) -> dict[str, tuple[object, str | None]]:
    """Return fill and hatch by element symbol, read back from the ratio map's drawing."""
    with drawing(7, 5) as figure:
        axes, key = figure.subplots(2, 1)
        element_maps._ratio_map(figure, axes, key, training, sampled)
        patches = list(axes.patches)
        texts = [t for t in axes.texts if "–" not in t.get_text()]
        assert len(patches) == len(texts) == MAX_Z
        found = {}
        for patch in patches:
            x, y = patch.get_x(), patch.get_y()
            inside = [t for t in texts if x < t.get_position()[0] < x + 1]
            (label,) = [t for t in inside if y < t.get_position()[1] < y + 1]
            found[label.get_text()] = (patch.get_facecolor(), patch.get_hatch())
        to_png(figure)
    return found


def test_the_ratio_map_is_centred_saturates_and_marks_absence() -> None:
    training, sampled = np.zeros(MAX_Z + 1), np.zeros(MAX_Z + 1)
    training[[8, 26, 3, 11, 7]] = 0.1
    sampled[[8, 26, 3]] = 0.1, 0.8, 0.0001
    sampled[9] = 0.2
    cells = drawn_map(training, sampled)

    def rgb(symbol: str) -> np.ndarray:
        return np.array(cells[symbol][0])[:3]

    assert rgb("O").min() > 0.95, "no change is nearly white"
    assert rgb("Fe")[0] > 2 * rgb("Fe")[2], "more often is red"
    assert rgb("Li")[2] > 2 * rgb("Li")[0], "less often is blue"
    assert rgb("F").tolist() == rgb("Fe").tolist(), "a factor of 8 saturates"
    assert cells["Na"] == cells["N"]
    assert {s for s, (_, hatch) in cells.items() if hatch} == {"F", "Na", "N"}
    greys = {s for s, (fill, _) in cells.items() if fill == cells["Og"][0]}
    assert len(greys) == MAX_Z - 6
    assert np.ptp(rgb("Og")) == 0


def test_a_generator_keeps_its_style_between_figures_and_reports() -> None:
    block = first_block()
    assert len(set(styles(block.rows))) == len(block.rows)
    assert len({s.marker for s in styles(block.rows)}) == len(block.rows)
    assert len({s.hatch for s in styles(block.rows)}) == len(block.rows)
    for row, style in zip(block.rows, styles(block.rows), strict=True):
        assert styles([row]) == (style,)
    twelve = [replace(block.rows[0], label=str(i)) for i in range(6)]
    assert len(set(styles(twelve))) == 6


def test_what_has_no_data_is_not_drawn() -> None:
    bare = tuple(
        replace(
            run,
            checks={},
            uniqueness={},
            novelty={},
            curves={},
            element_frequency=None,
            n_elements=None,
        )
        for run in samples.report().runs
    )
    assert figures.draw_all(replace(samples.report(), runs=bare, datasets=())) == ()


def test_partial_data_is_drawn() -> None:
    report = samples.report()
    uniform = replace(
        samples.run("uniform", 0, 0.2), checks={}, novelty={}, n_elements=None, role=Role.BASELINE
    )
    pictures = figures.draw_all(replace(report, runs=(report.runs[0], uniform), datasets=()))
    assert [p.name.split("-mp")[0] for p in pictures] == [
        "checks",
        "uniqueness",
        "training",
        "element-counts",
    ]
    assert "uniform strict CNEN not known" in pictures[0].alt
