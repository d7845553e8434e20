"""Training crystals with elements replaced: places, symmetry and volumes stay what they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gandb import generators, training
from gandb.core.crystals import Crystal, crystal
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.generators import StructureData, StructureSamples
from gandb.generators.base import unpack
from gandb.generators.prototype_substitution import PrototypeSubstitution
from gandb.representations.standard_cells import find_dataset
from tests.real_crystals import real_crystals
from tests.shared_data import real

NAME = "prototype_substitution"
FACES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def rock_salt(a: str, b: str, length: float) -> Crystal:
    coords = np.concatenate([FACES, (FACES + 0.5) % 1.0])
    return crystal([length] * 3, [90] * 3, [a] * 4 + [b] * 4, coords)


def perovskite(a: str, b: str, x: str, length: float) -> Crystal:
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return crystal([length] * 3, [90] * 3, [a, b, x, x, x], np.array(coords))


CRYSTALS = (
    rock_salt("Na", "Cl", 5.64),
    rock_salt("K", "Cl", 6.29),
    rock_salt("Na", "Br", 5.97),
    perovskite("Sr", "Ti", "O", 3.9),
    perovskite("Ba", "Ti", "O", 4.0),
    perovskite("Ba", "Zr", "O", 4.2),
    crystal([2.87] * 3, [90] * 3, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
)


def fit(crystals: Sequence[Crystal] = CRYSTALS, **options: Any) -> PrototypeSubstitution:
    run = training.start(NAME, options, StructureData.of(crystals), np.random.SeedSequence(0))
    run.run(1)
    found = generators.load(run.checkpoint())
    assert isinstance(found, PrototypeSubstitution)
    return found


def draw(
    model: PrototypeSubstitution, n: int, condition: dict[str, object] | None = None
) -> StructureSamples:
    return model.sample(n, np.random.SeedSequence(3), condition)


def formula(own: Crystal) -> str:
    return "".join(f"{s}{own.counts()[s]}" for s in sorted(own.counts()))


def test_elements_are_alike_that_share_places_of_a_structure_type() -> None:
    likeness = fit().likeness
    z = ATOMIC_NUMBERS

    def alike(a: str, b: str) -> float:
        return float(likeness[z[a], z[b]])

    np.testing.assert_array_equal(likeness, likeness.T)
    # Of three rock salts, two have Na and one K at the metal's place: 2 * 1 / 3.
    assert alike("Na", "K") == pytest.approx(2 / 3)
    assert alike("Cl", "Br") == pytest.approx(2 / 3)
    assert alike("Sr", "Ba") == pytest.approx(2 / 3)
    assert alike("Ti", "Zr") == pytest.approx(2 / 3)
    for a, b in (("Na", "Cl"), ("Sr", "Ti"), ("O", "Ti"), ("Na", "Sr"), ("Cl", "O"), ("Fe", "Na")):
        assert alike(a, b) == 0.0
    # Each crystal with A meets some crystal of its type.
    np.testing.assert_allclose(
        likeness.sum(axis=1)[[z["Na"], z["Ba"], z["O"], z["Fe"]]], [2, 2, 3, 1]
    )


def test_a_supercell_is_of_the_same_type() -> None:
    one = crystal([4.0] * 3, [90] * 3, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    two = crystal(
        [8.2, 4.1, 4.1], [90] * 3, ["Rb", "Rb", "Cl", "Cl"],
        [[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0.5], [0.75, 0.5, 0.5]],
    )  # fmt: skip
    likeness = fit([one, two]).likeness
    assert likeness[ATOMIC_NUMBERS["Cs"], ATOMIC_NUMBERS["Rb"]] == pytest.approx(0.5)


def test_only_elements_and_size_change() -> None:
    samples = draw(fit(), 500)
    known = {own.id for own in CRYSTALS}
    assert not samples.rejections.any()
    shapes = {(len(own), own.frac_coords.tobytes()) for own in CRYSTALS}
    for own in samples.crystals:
        assert own is not None
        assert own.id not in known
        assert len(own.amounts) in (1, 2, 3)
        np.testing.assert_array_equal(own.angles, 90.0)
        assert len(own) in {n for n, _ in shapes}
    assert not samples.space_groups.any()
    assert set(samples.formulas) == {None}


@pytest.mark.parametrize("replaced", [1, 2, 3])
def test_as_many_elements_are_replaced_as_asked_for(replaced: int) -> None:
    samples = draw(fit(CRYSTALS[3:6], replaced=replaced), 200)
    systems = [set(own.amounts) for own in CRYSTALS[3:6]]
    for own in samples.crystals:
        if own is None:
            continue
        fewest = min(len(set(own.amounts) - system) for system in systems)
        assert fewest <= replaced
        assert len(own.amounts) == 3
    if replaced == 3:  # five elements are not enough to replace three by others
        assert samples.rejected() == {"no_other_element": 200}


def test_learned_replacements_are_alike_and_by_frequency_they_are_not() -> None:
    def share(similarity: str) -> float:
        """Share of rock salts with one element replaced that have a metal and a halogen."""
        samples = draw(fit(replaced=1, similarity=similarity), 2000)
        salts = [own.amounts.keys() for own in samples.crystals if own and len(own) == 8]
        good = [bool(s & {"Na", "K"}) and bool(s & {"Cl", "Br"}) for s in salts]
        return sum(good) / len(good)

    assert share("learned") > 2 * share("frequency")


def test_volumes_follow_those_of_the_training_crystals() -> None:
    model = fit(CRYSTALS[:3])
    volume = model.volumes
    z = ATOMIC_NUMBERS
    assert volume[z["K"]] > volume[z["Na"]]
    assert volume[z["Br"]] > volume[z["Cl"]]
    assert np.isnan(volume[z["O"]])
    made = draw(model, 50, {"composition": "KBr"})
    lengths = [own.lengths[0] for own in made.crystals if own]
    assert lengths == pytest.approx([6.59] * 50, rel=0.05)  # KBr has 6.59 Å
    assert {own.counts()["K"] for own in made.crystals if own} == {4}


@pytest.mark.parametrize(
    ("condition", "formulas", "text"),
    [
        ({"elements": ["K", "Br"]}, {"Br4K4"}, "Br-K"),
        ({"composition": "SrZrO3"}, {"O3Sr1Zr1"}, "SrZrO3"),
        ({"composition": "Na2Cl2", "space_group": 225}, {"Cl4Na4"}, "NaCl"),
        ({"elements": ["Sr", "Zr", "O"], "space_group": [221, 1]}, None, "O-Sr-Zr"),
    ],
)
def test_what_is_asked_for_is_made(
    condition: dict[str, object], formulas: set[str] | None, text: str
) -> None:
    samples = draw(fit(), 100, condition)
    made = [own for own in samples.crystals if own is not None]
    assert len(made) == 100
    if formulas is None:
        assert {frozenset(own.amounts) for own in made} == {frozenset({"Sr", "Zr", "O"})}
        best = Counter(formula(own) for own in made).most_common(1)[0][0]
        assert best == "O3Sr1Zr1"
    else:
        assert {formula(own) for own in made} == formulas
    assert set(samples.formulas) == {text}
    group = condition.get("space_group")
    expected = 0 if group is None else group if isinstance(group, int) else 221
    assert set(samples.space_groups.tolist()) == {expected}
    assert not {own.id for own in made} & {own.id for own in CRYSTALS}


@pytest.mark.parametrize(
    "condition",
    [
        {"elements": ["Na", "U"]},
        {"elements": ["Na", "Cl", "O", "Ti"]},
        {"composition": "NaCl2"},
        {"composition": "NaCl", "space_group": 221},
        {"space_group": 2},
        {"elements": ["Na", "K", "Cl", "Br", "Sr", "Ba", "Ti", "Zr"]},
    ],
)
def test_what_cannot_be_made_is_refused(condition: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        draw(fit(), 5, condition)


@pytest.mark.parametrize(
    "options",
    [{"similarity": "mined"}, {"replaced": -1}, {"symprec": 0.0}, {"max_atoms": -2}, {"no": 1}],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fit(**options)


def test_one_seed_gives_one_answer_and_checkpoints_are_canonical() -> None:
    model = fit()
    assert list(draw(model, 50).crystals) == list(draw(model, 50).crystals)
    checkpoint = model.checkpoint()
    again = generators.load(checkpoint)
    assert isinstance(again, PrototypeSubstitution)
    assert again.checkpoint() == checkpoint
    assert list(again.sample(50, np.random.SeedSequence(3)).crystals) == list(
        draw(model, 50).crystals
    )
    tensors, description = unpack(checkpoint)
    cut = {**tensors, "likeness": tensors["likeness"][1:]}
    with pytest.raises(InputError, match="likeness"):
        PrototypeSubstitution.restore(cut, description, "cpu")


@real
def test_real_crystals_keep_their_space_groups_and_chemistry() -> None:
    data = StructureData.of([own for own in real_crystals() if len(own) < 30])
    model = fit(data.crystals)
    kinds = np.unique(model.space_groups)
    assert len(kinds) > 20
    groups = [int(g) for g in (225, 221, 62, 194) if g in kinds]
    samples = draw(model, 100, {"space_group": groups})
    assert not samples.rejections.any()
    for own, asked in zip(samples.crystals, samples.space_groups, strict=True):
        assert own is not None
        assert find_dataset(own, 0.05).number == asked
    # Lanthanoids stand in for each other.
    lanthanum = model.weights[ATOMIC_NUMBERS["La"]].copy()
    lanthanum[ATOMIC_NUMBERS["La"]] = 0.0
    like = {SYMBOLS[i] for i in np.argsort(-lanthanum)[:8]}
    assert like & {"Ce", "Pr", "Nd", "Sm", "Gd", "Y"}
