"""The consortium's validator finds no fault, and the clients of others fetch what is there."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import warnings

import pytest

from tests.sharing.serve_lab import Lab, Served


@pytest.fixture
def lab(lab_served: tuple[Lab, Served]) -> Lab:
    return lab_served[0]


@pytest.fixture
def served(lab_served: tuple[Lab, Served]) -> Served:
    return lab_served[1]


SEEDS = [int(seed) for seed in os.environ.get("GANDB_VALIDATOR_SEEDS", "1,2").split(",")]
"""What the validator asks for depends on them; more by GANDB_VALIDATOR_SEEDS=3,4,5."""


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "base"), [(s, ("", "/v1")[s % 2]) for s in SEEDS])
def test_the_validator_finds_no_fault(served: Served, seed: int, base: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tools' own models
        from optimade.validator import ImplementationValidator

        random.seed(seed)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            validator = ImplementationValidator(base_url=served.base + base, page_limit=4)
            validator.validate_implementation()
    results = validator.results
    assert results.failure_messages == []
    assert results.internal_failure_messages == []
    assert results.optional_failure_messages == []
    assert validator.valid
    assert results.success_count > 50


@pytest.mark.parametrize("path", ["structures", "references", "links", "info"])
def test_answers_fit_the_models_of_the_tools(served: Served, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optimade.models import (
            InfoResponse,
            LinksResponse,
            ReferenceResponseMany,
            StructureResponseMany,
        )

        models = {
            "structures": StructureResponseMany,
            "references": ReferenceResponseMany,
            "links": LinksResponse,
            "info": InfoResponse,
        }
        models[path](**served.ask(f"/v1/{path}").json)


def test_pymatgens_rester_fetches_and_filters(lab: Lab, served: Served) -> None:
    from pymatgen.ext.optimade import OptimadeRester

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with OptimadeRester(served.base + "/") as rester:
            found = rester.get_structures(elements=["O"], nelements=[2, 3])
    expected = {
        r["id"]: r["attributes"]
        for r in served.all(filter='elements HAS "O" AND nelements >= 2 AND nelements <= 3')
    }
    own = next(iter(found.values()))
    # It takes what is ordered; of disordered cells, those with as many species as sites.
    ordered = {i for i, a in expected.items() if not a["structure_features"]}
    assert ordered <= set(own) <= set(expected)
    assert len(ordered) > 2
    crystals = {str(c.id): c for c in (*lab.public, *lab.generated)}
    for name in ordered:
        crystal = crystals[expected[name]["_gandb_structure_id"]]
        symbols = sorted(re.sub(r"[\d.]*[+-]", "", s).replace("D", "H") for s in crystal.species)
        got = sorted(site.specie.symbol.replace("D", "H") for site in own[name])
        assert got == symbols
        assert own[name].lattice.lengths == pytest.approx(crystal.lengths)


def test_the_client_of_the_tools_counts_and_fetches(served: Served) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optimade.client import OptimadeClient

        text = 'elements HAS ANY "O","Fe" AND NOT nsites > 4'
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            client = OptimadeClient(
                base_urls=[served.base], max_results_per_provider=1000, use_async=False, silent=True
            )
            found = client.get(text)
            counted = client.count(text)
    [answers] = found["structures"][text].values()
    expected = served.ids(filter=text)
    assert sorted(r["id"] for r in answers["data"]) == sorted(expected)
    assert set(counted["structures"][text].values()) == {len(expected)}
