"""Two groups whose stores were made apart and have much in common; and what a store says in all."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np

from gandb.core.config import Settings as StoreSettings
from gandb.datasets import selection, versions
from gandb.energies.fire import Settings
from gandb.energies.potentials import POTENTIALS
from gandb.sharing.bundles.packing import pack
from gandb.sharing.bundles.selection import select
from gandb.sharing.origin import set_origin
from gandb.sources.sample import sample_files
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.choosing import choose
from gandb.tasks.data import checkpoint_of_job, find_checkpoint
from gandb.tasks.generation import generation_job
from gandb.tasks.identity import identify_job
from gandb.tasks.importing import import_job
from gandb.tasks.judged_sets import find_set
from gandb.tasks.keys import keys_job
from gandb.tasks.novelty import novelty_job
from gandb.tasks.records import records_job
from gandb.tasks.relaxation import relaxation_job
from gandb.tasks.structure_checks import structure_checks_job
from gandb.tasks.structure_novelty import structure_novelty_job
from gandb.tasks.training import training_job
from tests.crowds import BASES, write
from tests.energies import springs
from tests.filled import head
from tests.tasks.labs import work
from tests.variants import Cell, noisy

ROWS = {"ada": 50, "bose": 80}
STRUCTURES = {"ada": slice(0, 10), "bose": slice(4, 15)}


def make(url: str, folder: Path, origin: str) -> Store:
    """Make an empty store with a name among groups."""
    folder.mkdir(parents=True, exist_ok=True)
    blobs = str(folder / "blobs") if "://" in url else None
    store = Store.create(StoreSettings(store=url), blobs)
    set_origin(store, origin)
    return store


def fill(store: Store, folder: Path, origin: str) -> None:
    """Do a group's work: imports, versions, tags, training, generation, candidates, novelty."""
    (table, *_) = sample_files()["mp"]
    own = head(table, folder / "own.csv", ROWS[origin])
    common = head(table, folder / "common.csv", 30)
    mapping = {"value": "formation_energy_per_atom"}
    work(store, import_job("mp", [own], release=origin, mapping=mapping))
    work(store, import_job("mp", [common], mapping=mapping))
    cells = crowd(STRUCTURES[origin])
    file = write(folder, "structures", cells)
    work(store, records_job("mine", [file], licence="CC-BY-4.0", attribution="ours"))
    first, _ = versions.create(
        store, "common", selection.by_condition(store, COMMON), "what both have"
    )
    versions.create(store, "own", selection.by_condition(store, "source = 'mp'"), f"of {origin}")
    versions.create(store, "own", selection.by_condition(store, "n_elements > 1"), "no elements")
    seeds = (0,) if origin == "ada" else (0, 1)
    (trained,) = work(store, training_job("count_given_element", first, seed=0))
    checkpoint = checkpoint_of_job(store, trained.id)
    work(store, *(generation_job(checkpoint, 90, s, chunk_size=60) for s in seeds))
    work(store, novelty_job(store, checkpoint, versions.resolve(store, "own@1")))
    shown = crowd(STRUCTURES[origin], seed=9)[::2]
    work(store, candidates_job("other", [write(folder, f"of-{origin}", shown)]))
    identify(store)
    found = find_checkpoint(store, "other")
    work(store, structure_novelty_job(store, found, ["entries"]))
    work(store, structure_checks_job(find_set(store, "other")))
    relax(store)


def relax(store: Store) -> None:
    """Relax the candidates a little, by springs."""
    with patch.dict(POTENTIALS, {springs.NAME: springs.KIND}):
        settings = Settings(max_force=0.1, max_steps=5)
        work(store, relaxation_job(choose(store, "other"), springs.NAME, settings))


COMMON = (
    "source = 'mp' AND entry_id IN (SELECT e.entry_id FROM snapshot_entry AS e "
    "JOIN source_snapshot AS s ON s.id = e.snapshot_id WHERE s.release IS NULL)"
)


def crowd(part: slice, seed: int = 5) -> list[Cell]:
    """Return textbook crystals with a noisy twin each, the same ones whoever asks for them."""
    found = []
    for place, base in list(enumerate(BASES))[part]:
        rng = np.random.default_rng([seed, place])
        found += [base, noisy(base, rng, 0.01)] if seed == 5 else [noisy(base, rng, 0.02), base]
    return found


def identify(store: Store) -> None:
    """Do what ``gandb identify`` does."""
    for wanted in (keys_job, identify_job):
        if (spec := wanted(store)) is not None:
            work(store, spec)


def bundle(store: Store, path: Path, **chosen: object) -> Path:
    """Pack everything, or what is chosen."""
    asked = chosen or {"everything": True}
    return pack(store, select(store, **asked), path).path  # type: ignore[arg-type]
