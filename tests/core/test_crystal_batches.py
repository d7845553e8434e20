"""Many structures at once say what `Crystal` says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gandb.core.compositions import composition_id
from gandb.core.crystal_batches import CrystalBatch
from gandb.core.crystals import Crystal, crystal
from gandb.core.ids import canonical_json
from tests.crowds import BASES
from tests.shared_data import SHARED, real
from tests.variants import noisy


def batch_of(crystals: Sequence[Crystal]) -> CrystalBatch:
    texts = sorted({t for c in crystals for t in c.species}, key=lambda t: t[::-1])
    place = {t: i for i, t in enumerate(texts)}
    properties = [
        canonical_json({k: list(v) for k, v in c.properties.items()}).decode()
        if c.properties
        else None
        for c in crystals
    ]
    return CrystalBatch(
        cells=np.array([[*c.lengths, *c.angles] for c in crystals]).reshape(-1, 6),
        offsets=np.cumsum([0, *map(len, crystals)]),
        texts=texts,
        codes=np.array([place[t] for c in crystals for t in c.species], np.int32),
        frac_coords=np.concatenate([c.frac_coords for c in crystals] or [np.zeros((0, 3))]),
        properties=properties,
        charges=np.array([np.nan if c.charge is None else c.charge for c in crystals], float),
    )


def some() -> list[Crystal]:
    rng = np.random.default_rng(1)
    found = [base.crystal() for base in BASES]
    found += [noisy(base, rng, 0.05).crystal() for base in BASES]
    n = len(found[5])
    found.append(replace(found[5], properties={"magmom": tuple(float(i) for i in range(n))}))
    found.append(
        crystal([4, 5, 6], [80, 95, 110], ["Fe:0.5", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.25]])
    )
    shared = ["Fe3+:0.333 Ni2+:0.25", "D", "H+"]
    places = [[0.1, 0.2, 0.3], [0.6, 0.1, 0.2], [0.9, 0.9, 0.4]]
    tags = {"label": ["a", None, 'ü"\\'], "forces": [[0.5, 1, -2.25]] * 3}
    found.append(crystal([7] * 3, [90] * 3, shared, places, properties=tags, charge=-1.5))
    return found


def check(crystals: Sequence[Crystal]) -> None:
    batch = batch_of(crystals)
    assert [bytes(i) for i in batch.ids()] == [c.id.bytes for c in crystals]
    assert batch.first_problem() is None
    assert batch.ordered.tolist() == [c.ordered for c in crystals]
    assert batch.volumes == pytest.approx([c.volume for c in crystals], rel=1e-9)
    own = [bytes(i) for i in batch.composition_ids()]
    assert own == [composition_id(c.counts()).bytes for c in crystals]
    assert [batch.crystal(i).id for i in range(len(batch))] == [c.id for c in crystals]


def test_it_says_of_many_what_is_said_of_each() -> None:
    check(some())
    check([])
    check(some()[:1])


@real
def test_real_structures_are_found_to_be_some() -> None:
    from gandb.core.errors import InputError
    from gandb.sources.formats import crystal_of
    from gandb.sources.reading import read_files

    found = []
    for name in ("mp-cifs.zip", "oqmd-cifs.zip"):
        for item in read_files([SHARED / "structures" / name]):
            if (structure := getattr(item, "structure", None)) is not None:
                try:
                    found.append(crystal_of(structure))
                except InputError:
                    continue
    assert len(found) > 100
    check(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lengths": np.array([0.0, 4, 4])}, "its cell is not one"),
        ({"lengths": np.array([np.nan, 4, 4])}, "its cell is not one"),
        ({"lengths": np.array([1e6, 4, 4])}, "its cell is not one"),
        ({"angles": np.array([120.0, 120, 120])}, "its cell is not one"),
        ({"lengths": np.array([4.000000001, 4, 4])}, "off the grid"),
        ({"frac_coords": np.array([[0, 0, 0], [0.5, 0.5, 1.0]])}, "not in"),
        ({"frac_coords": np.array([[0, 0, 0], [0.5, 0.5, np.inf]])}, "not in"),
        ({"frac_coords": np.array([[0, 0, 0], [0.5, 0.5, -0.1]])}, "not in"),
        ({"frac_coords": np.array([[0, 0, 0], [0.5, 0.5, 1e-9]])}, "not in"),
        ({"frac_coords": np.array([[0, 0, 0], [0.001, 0, 0]])}, "at one place"),
        ({"frac_coords": np.array([[0, 0, 0], [0.9999, 0, 0.9999]])}, "at one place"),
        ({"species": ("Cl", "Na")}, "canonical order"),
        ({"species": ("Na", "Xx")}, "no element"),
        ({"species": ("Na", "Cl:2")}, "is occupied 2 times"),
        ({"species": ("Na", "Cl:1.0")}, "which is 'Cl'"),
        ({"charge": 0.0}, "its charge"),
        ({"charge": 1e-9}, "its charge"),
        ({"properties": {"magmom": (1.0,)}}, "1 values of magmom for 2 sites"),
        ({"properties": {"magmom": (None, None)}}, "not in canonical form"),
        ({"properties": {"magmom": (1.0000000001, 2.0)}}, "not in canonical form"),
    ],
)
def test_what_is_no_structure_is_told(change: dict[str, object], reason: str) -> None:
    good = crystal([4, 4, 4], [90] * 3, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    bad = replace(good, **change)  # type: ignore[arg-type]
    found = batch_of([good, bad, good]).first_problem()
    assert found is not None
    assert found[0] == 1
    assert reason in found[1]
