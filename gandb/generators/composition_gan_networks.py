"""Networks of the composition-conditioned GAN's preset ``compact``: crystals as graphs.

See `gandb.generators.composition_gan`. An atom's neighbours are all atoms within 3.6 Å, images in
the 26 cells around included. A crystal is a matrix (2 + s, 4):

- row 0: lengths over a typical length of the training set, and 0;
- row 1: cosines of alpha, beta and gamma, and 0;
- of each slot, fractional coordinates (any real numbers) and its presence, from 0 to 1; above 0.5
  it holds an atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gandb.representations.point_cloud import PointCloudForm, PointClouds

LATENT = 32
"""Random numbers for each crystal of the compact generator, beside those of the slots."""

SLOT_NOISE = 8
"""Random numbers for each slot, beside the place where its atom starts."""

_CUTOFF = 3.6  # Å, of neighbours
_N_SHELLS = 12
_CHANNELS = 32  # what goes from a neighbour to an atom
_SIX = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_SHIFTS = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)  # (27, 3)


Draw = tuple[str, tuple[int, ...]]
"""Random numbers that a generator takes: ``normal`` or ``uniform``, and their shape."""


def draw_normal(*shape: int) -> Draw:
    """Ask for standard normal numbers."""
    return "normal", shape


def draw_uniform(*shape: int) -> Draw:
    """Ask for numbers from 0 to below 1."""
    return "uniform", shape


# --- geometry ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Geometry:
    """n crystals in s slots.

    Attributes:
        lengths: (n, 3), Å.
        cosines: (n, 3), of alpha, beta and gamma.
        coords: (n, s, 3), fractional, any real numbers.
        present: bool (n, s), which slots hold an atom.
    """

    lengths: Tensor
    cosines: Tensor
    coords: Tensor
    present: Tensor


def metric(lengths: Tensor, cosines: Tensor) -> Tensor:
    """Return the metric tensors, (n, 3, 3), Å², of lengths, Å, and cosines of angles, (n, 3)."""
    one = torch.ones_like(cosines[:, 0])
    x, y, z = cosines.unbind(1)
    angles = torch.stack([one, z, y, z, one, x, y, x, one], dim=1).view(-1, 3, 3)
    return angles * lengths[:, :, None] * lengths[:, None, :]


@dataclass(frozen=True)
class Neighbours:
    """m pairs of an atom and a neighbour of it, over all crystals of a batch.

    Attributes:
        crystal: int64 (m,), whose atoms they are.
        atom: int64 (m,), its place among the n s slots of the batch.
        other: int64 (m,), the neighbour's.
        offset: (m, 3), cells to add to the difference of coordinates.
    """

    crystal: Tensor
    atom: Tensor
    other: Tensor
    offset: Tensor

    def vectors(self, coords: Tensor, metrics: Tensor) -> tuple[Tensor, Tensor]:
        """Return fractional vectors from atom to neighbour, (m, 3), and their lengths, (m,), Å."""
        flat = coords.reshape(-1, 3)
        step = flat.index_select(0, self.other) - flat.index_select(0, self.atom)
        vector = step + self.offset
        a, b, c = vector.unbind(1)
        squares = torch.stack([a * a, b * b, c * c, 2 * b * c, 2 * a * c, 2 * a * b], dim=1)
        parts = torch.stack([metrics[:, i, j] for i, j in _SIX], dim=1)
        square = (squares * parts.index_select(0, self.crystal)).sum(dim=1)
        return vector, square.clamp(min=1e-6).sqrt()


@torch.no_grad()
def find_neighbours(coords: Tensor, metrics: Tensor, present: Tensor, cutoff: float) -> Neighbours:
    """Find all pairs nearer than ``cutoff``, Å, in the nearest 27 cells.

    Args:
        coords: (n, s, 3).
        metrics: (n, 3, 3), Å².
        present: bool (n, s).
        cutoff: how far.
    """
    n_slots = present.shape[1]
    crystal, atom, other = (present[:, :, None] & present[:, None, :]).nonzero(as_tuple=True)
    step = coords[crystal, other] - coords[crystal, atom]
    whole = step.round()
    shifts = _SHIFTS.to(coords)
    # (r + s) G (r + s) = r G r + 2 (G r) s + s G s, for the nearest difference r and all shifts s.
    near_by = step - whole
    turned = (metrics.index_select(0, crystal) * near_by[:, None, :]).sum(dim=2)
    own = (turned * near_by).sum(dim=1) - cutoff * cutoff
    of_shifts = ((shifts @ metrics) * shifts).sum(dim=2)
    squares = (2.0 * turned @ shifts.T + own[:, None]).add_(of_shifts.index_select(0, crystal))
    near = squares < 0.0
    near[:, len(shifts) // 2] &= atom != other
    pair, shift = near.nonzero(as_tuple=True)
    crystal, atom, other = crystal[pair], atom[pair], other[pair]
    start = crystal * n_slots
    return Neighbours(crystal, start + atom, start + other, shifts[shift] - whole[pair])


class Shells(nn.Module):
    """Distances as bell-shaped functions around fixed radii, which fade out at the cutoff."""

    centres: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0.5, _CUTOFF, _N_SHELLS), False)
        self.width = (_CUTOFF - 0.5) / (_N_SHELLS - 1)

    def forward(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the functions' values, (m, shells), and how much is left of each pair, (m,)."""
        values = torch.exp(-0.5 * ((distance[:, None] - self.centres) / self.width) ** 2)
        fade = 0.5 * (1.0 + torch.cos(torch.pi * (distance / _CUTOFF).clamp(max=1.0)))
        return values, fade


class Interaction(nn.Module):
    """Atoms take up what their neighbours are, by distance (SchNet, arXiv:1706.08566)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.filter = nn.Linear(_N_SHELLS, _CHANNELS)
        self.source = nn.Linear(width, _CHANNELS, bias=False)
        self.update = _perceptron(width + _CHANNELS, width, width)

    def forward(
        self, features: Tensor, pairs: Neighbours, shells: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return new features (a, width) and what went from neighbour to atom, (m, channels).

        Args:
            features: (a, width), of atoms.
            pairs: m of them.
            shells: (m, shells).
            share: (m,), how much each pair counts.
        """
        messages = (
            self.filter(shells)
            * self.source(features).index_select(0, pairs.other)
            * share[:, None]
        )
        taken = features.new_zeros((len(features), _CHANNELS)).index_add(0, pairs.atom, messages)
        found: Tensor = features + self.update(torch.cat([features, taken], dim=1))
        return found, messages


def _perceptron(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(sizes)):
        layers += [nn.SiLU()] if place else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


class Slots(nn.Module):
    """Which element each slot is of, and the counts asked for as features."""

    owner: Tensor
    size: Tensor
    place: Tensor
    sums: Tensor

    def __init__(self, form: PointCloudForm) -> None:
        super().__init__()
        owner = [e for e, n in enumerate(form.slots) for _ in range(n)]
        place = [k for n in form.slots for k in range(n)]
        self.register_buffer("owner", torch.tensor(owner), False)
        self.register_buffer("place", torch.tensor(place), False)
        self.register_buffer("size", torch.tensor(form.slots, dtype=torch.float32), False)
        sums = functional.one_hot(torch.tensor(owner), len(form.slots)).float()
        self.register_buffer("sums", sums, False)
        self.n_elements = len(form.slots)
        self.n_slots = len(owner)
        self.n_features = 2 * self.n_elements + 1

    def features(self, counts: Tensor) -> Tensor:
        """Return features (n, 2 elements + 1) of counts (n, elements)."""
        atoms = counts.sum(dim=1, keepdim=True)
        return torch.cat([counts / self.size, counts / atoms, atoms.log() - 2.0], dim=1)


def _cosines(values: Tensor) -> Tensor:
    """Return cosines of angles that always make a cell, (n, 3), of any numbers (n, 3).

    They are those between the rows (1, 0, 0), (x, 1, 0) and (y, z, 1).
    """
    x, y, z = values.unbind(1)
    second, third = (1.0 + x * x).rsqrt(), (1.0 + y * y + z * z).rsqrt()
    return torch.stack([(x * y + z) * second * third, y * third, x * second], dim=1)


# --- networks ----------------------------------------------------------------------------


class GraphGenerator(nn.Module):
    """Draws a cell and which slots are full; then moves atoms, put anywhere, by their neighbours.

    Attributes:
        slots: of the form.
        typical: float32 (2,), a length, Å, and the volume of an atom, Å³, of the training set.
    """

    typical: Tensor

    def __init__(self, form: PointCloudForm, width: int, rounds: int) -> None:
        super().__init__()
        self.slots = Slots(form)
        slots = self.slots
        self.register_buffer("typical", torch.ones(2))
        known = LATENT + slots.n_features
        self.cell = _perceptron(known, 2 * width, 2 * width, 6)
        self.presence = _perceptron(slots.n_elements + 3, width, width, 1)
        self.start = _perceptron(known + SLOT_NOISE + slots.n_elements, width, width)
        self.shells = Shells()
        self.rounds = nn.ModuleList(Interaction(width) for _ in range(rounds))
        self.moves = nn.ModuleList(nn.Linear(width, _CHANNELS) for _ in range(rounds))

    def draws(self, n: int) -> list[Draw]:
        """Say what random numbers n crystals take."""
        slots = self.slots.n_slots
        return [
            draw_normal(n, LATENT),
            draw_normal(n, slots, SLOT_NOISE),
            draw_uniform(n, slots, 3),
        ]

    def forward(self, counts: Tensor, latent: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """Make crystals.

        Args:
            counts: (n, elements), atoms asked for.
            latent: (n, LATENT), standard normal.
            noise: (n, s, SLOT_NOISE), standard normal.
            places: (n, s, 3), where atoms start, uniform from 0 to 1.

        Returns:
            matrices (n, 2 + s, 4); see the module.
        """
        n, slots = len(latent), self.slots
        known = torch.cat([latent, slots.features(counts)], dim=1)
        own = self.cell(known)
        edge = (counts.sum(dim=1, keepdim=True) * self.typical[1]) ** (1.0 / 3.0)
        lengths = edge * torch.exp(0.5 * own[:, :3])
        cosines = _cosines(1.2 * torch.tanh(0.5 * own[:, 3:]))
        elements = slots.sums.expand(n, -1, -1)
        asked = counts[:, slots.owner]
        place = slots.place.to(asked).expand_as(asked)
        about = torch.stack([asked / 8.0, place / 8.0, asked - place], dim=2)
        presence = self.presence(torch.cat([about, elements], dim=2))[:, :, 0].sigmoid()

        present = presence > 0.5
        metrics = metric(lengths, cosines)
        inputs = torch.cat(
            [known[:, None].expand(-1, slots.n_slots, -1), noise, elements], dim=2
        ).flatten(0, 1)
        index = torch.zeros(n * slots.n_slots, dtype=torch.int64, device=latent.device)
        held = present.flatten().nonzero()[:, 0]
        index[held] = torch.arange(len(held), device=latent.device)
        features = self.start(inputs.index_select(0, held))
        coords = places
        for interaction, move in zip(self.rounds, self.moves, strict=True):
            pairs = find_neighbours(coords, metrics, present, _CUTOFF)
            vector, distance = pairs.vectors(coords, metrics)
            shells, fade = self.shells(distance)
            packed = Neighbours(pairs.crystal, index[pairs.atom], index[pairs.other], pairs.offset)
            features, messages = interaction(features, packed, shells, fade)
            strength = (messages * move(features).index_select(0, packed.atom)).sum(dim=1)
            step = vector * (strength / (distance + 0.3))[:, None]
            moved = torch.zeros_like(coords).view(-1, 3).index_add(0, pairs.atom, step)
            coords = coords + moved.view_as(coords)
        zero = torch.zeros((n, 1), device=latent.device)
        cell = torch.stack(
            [torch.cat([lengths / self.typical[0], zero], 1), torch.cat([cosines, zero], 1)], dim=1
        )
        coords = coords * present[:, :, None]
        return torch.cat([cell, torch.cat([coords, presence[:, :, None]], dim=2)], dim=1)

    def encode(self, clouds: PointClouds) -> Tensor:
        """Return matrices, float32 (n, 2 + s, 4)."""
        x = np.zeros((len(clouds), 2 + self.slots.n_slots, 4), np.float32)
        x[:, 0, :3] = clouds.lengths / float(self.typical[0])
        x[:, 1, :3] = np.cos(np.radians(clouds.angles))
        x[:, 2:, :3] = clouds.frac_coords
        x[:, 2:, 3] = clouds.present
        return torch.from_numpy(x)

    def geometry(self, x: Tensor) -> Geometry:
        """Read matrices (n, 2 + s, 4)."""
        return Geometry(x[:, 0, :3] * self.typical[0], x[:, 1, :3], x[:, 2:, :3], x[:, 2:, 3] > 0.5)


class GraphCritic(nn.Module):
    """Values crystals by their atoms' neighbours, element by element, their cell and their counts.

    The order of slots within an element, the origin, and by how many cells an atom is moved make no
    difference. Its head ``classifier`` tells counts from what the slots hold.
    """

    typical: Tensor

    def __init__(self, form: PointCloudForm, width: int, rounds: int) -> None:
        super().__init__()
        self.slots = Slots(form)
        slots = self.slots
        self.register_buffer("typical", torch.ones(2))
        self.element = nn.Embedding(slots.n_elements, width)
        self.shells = Shells()
        self.rounds = nn.ModuleList(Interaction(width) for _ in range(rounds))
        self.atom = _perceptron(width, width, width)
        pooled = slots.n_elements * (width + 1) + slots.n_features + 7
        self.value = _perceptron(pooled, 2 * width, width, 1)
        self.classifier = CountHeads(form)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Return values (n,) of matrices (n, 2 + s, 4) and counts asked for, (n, elements)."""
        n, slots = len(x), self.slots
        lengths, cosines = x[:, 0, :3] * self.typical[0], x[:, 1, :3]
        coords, presence = x[:, 2:, :3], x[:, 2:, 3]
        present = presence > 0.5
        metrics = metric(lengths, cosines)
        pairs = find_neighbours(coords, metrics, present, _CUTOFF)
        _, distance = pairs.vectors(coords, metrics)
        shells, fade = self.shells(distance)
        index = torch.zeros(n * slots.n_slots, dtype=torch.int64, device=x.device)
        crystal, slot = present.nonzero(as_tuple=True)
        held = crystal * slots.n_slots + slot
        index[held] = torch.arange(len(held), device=x.device)
        packed = Neighbours(pairs.crystal, index[pairs.atom], index[pairs.other], pairs.offset)
        weight = presence.flatten().index_select(0, held)
        features = self.element.weight.index_select(0, slots.owner[slot])
        share = fade * weight.index_select(0, packed.other)
        for interaction in self.rounds:
            features, _ = interaction(features, packed, shells, share)
        taken = self.atom(features) * weight[:, None]
        group = crystal * slots.n_elements + slots.owner[slot]
        pooled = (
            taken.new_zeros((n * slots.n_elements, taken.shape[1]))
            .index_add(0, group, taken)
            .view(n, -1)
        )
        atoms = counts.sum(dim=1, keepdim=True)
        sums = presence @ slots.sums
        volume = torch.linalg.det(metrics).clamp(min=1e-3).sqrt()
        density = (volume / (self.typical[1] * atoms[:, 0])).log()[:, None]
        parts = [
            pooled / atoms,
            sums - counts,
            slots.features(counts),
            x[:, 0, :3],
            cosines,
            density,
        ]
        value: Tensor = self.value(torch.cat(parts, dim=1))[:, 0]
        return value


class CountHeads(nn.Module):
    """Tells how many atoms each element has, from the sum p of the presence of its slots.

    The logit of k atoms is -scale (p - centre_k)^2; the centres, at first k, and each element's
    scale are learned. There is nothing to tell of slots: they say themselves what they hold.
    """

    def __init__(self, form: PointCloudForm) -> None:
        super().__init__()
        self.slots = Slots(form)
        self.centres = nn.ParameterList(torch.arange(n + 1.0) for n in form.slots)
        self.scales = nn.Parameter(torch.ones(len(form.slots)))

    def losses(
        self, x: Tensor, counts: Tensor, present: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Return None, and the cross entropy of counts (n, elements), a sum over elements."""
        del present
        sums = x[:, 2:, 3] @ self.slots.sums
        losses = []
        for e, centres in enumerate(self.centres):
            logits = -self.scales[e] * (sums[:, e, None] - centres) ** 2
            losses.append(functional.cross_entropy(logits, counts[:, e].long()))
        return None, torch.stack(losses).sum()
