"""The crystals that come with gandb are what the README beside them says."""

from __future__ import annotations

from collections import Counter

from gandb.sources.base import Reject
from gandb.sources.reading import crystal_of, read_files
from gandb.sources.sample import sample_crystals


def test_the_sample_is_what_its_readme_says() -> None:
    source, path = sample_crystals()
    assert source == "oqmd"
    records = list(read_files([path]))
    assert not [r for r in records if isinstance(r, Reject)]
    kinds: Counter[int] = Counter()
    elements: Counter[str] = Counter()
    for record in records:
        assert not isinstance(record, Reject)
        assert record.structure is not None
        assert record.external_id is not None
        assert record.external_id.isdigit()
        assert {"formation_energy_per_atom", "energy_per_atom"} <= record.properties.keys()
        crystal = crystal_of(record.structure)
        assert crystal.ordered
        assert len(crystal) <= (60 if len(set(crystal.species)) == 1 else 16)
        kinds[len(set(crystal.species))] += 1
        if len(set(crystal.species)) == 1:
            elements[crystal.species[0]] += 1
    text = path.with_name("README.md").read_text(encoding="utf-8")
    for n in (kinds[2], kinds[3], kinds[4]):
        assert f"{n:,} " in text
    assert f"{len(records):,}" in text
    assert len(elements) > 70
    assert max(elements.values()) <= 4
