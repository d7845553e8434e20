"""The quantities that a report compares of crystals: names, meaning, order."""

from __future__ import annotations

from gandb.reports.metrics import Better, Metric, Unit

MODEL_LABELS = {
    "matgan": "MatGAN",
    "cubicgan": "CubicGAN",
    "pgcgm": "PGCGM",
    "composition_gan": "composition GAN",
    "random_wyckoff": "random Wyckoff",
}
"""Generators whose name in prose is not their registered name with spaces."""

COMPOSITION, SPACE_GROUP = "composition_obtained", "space_group_found"
CHARGES = ("cnen_strict", "cnen_default")

VALID, ASKED, CHARGED, VARIED, SIZES = (
    "crystals", "what was asked for", "charges", "diversity of records", "averages",
)  # fmt: skip
CRYSTAL_SECTIONS = (VALID, ASKED, CHARGED, VARIED, SIZES)
"""Headings of the table, in order."""

_SHARES = (
    ("rejected", "no crystal", VALID, "Share of samples that are no crystal."),
    ("structural_validity", "no atoms within 0.5 Å", VALID,
     "Share of samples with no two atoms, images of an atom included, closer than 0.5 Å, and a "
     "volume of at least 0.1 Å³."),
    ("structural_validity_published", "the same as published", VALID,
     "The same without images of an atom, as published code has it."),
    ("radius_distances", "distances, covalent radii", VALID,
     "Share of samples with no two atoms closer than a share of the sum of covalent radii."),
    ("radius_distances_atomic", "distances, atomic radii", VALID,
     "The same by atomic radii."),
    ("coordination", "all atoms have neighbours", VALID,
     "Share of samples in which every atom has a neighbour."),
    (SPACE_GROUP, "space group found again", ASKED,
     "Share of samples in which the space group that was asked for is found at 0.1 Å."),
    (COMPOSITION, "composition obtained", ASKED,
     "Share of samples with the reduced composition that was asked for."),
    ("cnen_strict", "strict CNEN", CHARGED,
     "Share of samples that are charge-neutral and electronegativity-balanced, alloys tested too."),
    ("cnen_default", "default CNEN", CHARGED,
     "The same, all-metal formulas passing without a test."),
    ("bond_valence_balance", "bond valences balance", CHARGED,
     "Share of samples whose charges by bond valences balance."),
    ("uniqueness", "distinct records", VARIED,
     "Share of samples that are distinct as records; whether they are distinct as materials is in "
     "the section on novelty."),
    ("novelty", "new compositions", VARIED,
     "Share of the distinct records whose composition the training set's version does not hold."),
)  # fmt: skip
_AVERAGES = (
    ("structural_validity", "shortest distance (Å)", "Mean of the shortest distance."),
    ("radius_distances", "shortest over radii",
     "Mean of the shortest distance over the sum of covalent radii."),
    ("density", "density (g/cm³)", "Mean density."),
    ("volume_per_atom", "volume (Å³/atom)", "Mean volume per atom."),
    ("coordination", "neighbours", "Mean number of neighbours of an atom."),
)  # fmt: skip

SHARES = tuple(name for name, *_ in _SHARES)
"""Shares of samples by name, in the order of the table."""
AVERAGES = tuple(name for name, *_ in _AVERAGES)
"""Checks whose numbers are averaged, in the order of the table."""

SHARE_METRICS = {
    name: Metric(
        f"crystal.{name}",
        label,
        section,
        meaning,
        "" if name in ("rejected", COMPOSITION) else name,
        Better.LOWER if name == "rejected" else Better.HIGHER,
    )
    for name, label, section, meaning in _SHARES
}
AVERAGE_METRICS = {
    name: Metric(
        f"average.{name}", label, SIZES, f"{meaning[:-1]}, over the samples that are crystals.",
        name, Better.NEITHER, Unit.PLAIN,
    )
    for name, label, meaning in _AVERAGES
}  # fmt: skip
HEADLINE = SHARE_METRICS["radius_distances"]
"""What the first sentence on crystals is about: the 0.5 Å rule hardly tells anything apart."""


def crystal_order(metric: Metric) -> int:
    """Return the place of a quantity in the table."""
    listed = [*SHARE_METRICS.values(), *AVERAGE_METRICS.values()]
    return listed.index(metric)


def generator_label(model: str) -> str:
    """Return what a generator is called in prose and figures."""
    return MODEL_LABELS.get(model, model.replace("_", " "))
