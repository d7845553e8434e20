"""The networks of MatGAN's two presets; `gandb.generators.matgan` says what they are for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from gandb.generators import kernels
from gandb.representations import onehot

N_ELEMENTS = len(onehot.ELEMENTS)
N_COUNTS = onehot.MAX_COUNT
N_SLOTS = onehot.MAX_ELEMENTS
N_CELLS = onehot.EMPTY

LATENT = 128
"""Dimensions of the paper generator's noise."""

FIRST_LOGIT = -3.0
"""Bias of the paper generator's last layer at the start: most cells begin near zero, as most real
ones are, else every element would pass the decoder's threshold."""


# --- the compact networks ----------------------------------------------------------------


class SlotGenerator(nn.Module):
    """Draws (element, count) cells one after another.

    Elements are places in order of electronegativity here; ``N_ELEMENTS`` is the end. Cells are
    ``N_COUNTS * place + count - 1``; ``N_CELLS`` is empty.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        count_width = max(16, width // 3)
        self.cells = nn.Embedding(N_CELLS + 1, width, padding_idx=N_CELLS)
        self.classes = nn.Embedding(max(1, n_classes), width)
        self.places = nn.Parameter(0.1 * torch.randn(N_SLOTS, width))
        self.hidden = nn.Linear(width, width)
        self.element = nn.Linear(width, N_ELEMENTS + 1, bias=False)
        self.element_bias = nn.Parameter(torch.zeros(N_SLOTS, N_ELEMENTS + 1))
        self.to_count = nn.Linear(width, count_width)
        self.element_in_count = nn.Embedding(N_ELEMENTS + 1, count_width)
        self.count = nn.Linear(count_width, N_COUNTS)
        with torch.no_grad():
            self.cells.weight.normal_(std=0.3)
            self.cells.weight[N_CELLS] = 0.0
            self.classes.weight.mul_(0.3 if n_classes else 0.0)
            self.element_in_count.weight.normal_(std=0.3)
            self.element.weight.mul_(0.1)
            self.count.weight.mul_(0.1)

    def start_from_frequencies(self, cells: np.ndarray) -> None:
        """Set the output biases to frequencies in cells (n, 8), in this order of elements.

        Elements and the end have theirs in each slot, counts theirs in all.
        """
        used = cells[cells < N_CELLS]
        places = cells // N_COUNTS  # N_ELEMENTS where empty
        elements = np.ones((N_SLOTS, N_ELEMENTS + 1))
        for slot in range(N_SLOTS):
            reached = places[:, slot - 1] < N_ELEMENTS if slot else np.full(len(cells), True)
            elements[slot] += np.bincount(places[reached, slot], minlength=N_ELEMENTS + 1)
        elements /= elements.sum(axis=1, keepdims=True)
        counts = np.bincount(used % N_COUNTS, minlength=N_COUNTS) + 1.0
        with torch.no_grad():
            self.element_bias.copy_(torch.from_numpy(np.log(elements)))
            self.count.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))

    def features(self, state: Tensor, place: Tensor) -> Tensor:
        """Features (m, width) of states (m, width), the sums over cells so far.

        ``place`` is the vector of the slot, (width,) or (m, width).
        """
        first = F.leaky_relu(state + place, 0.1)
        return F.leaky_relu(self.hidden(first), 0.1) + first

    def count_features(self, features: Tensor, element: Tensor) -> Tensor:
        """Features (m, count_width) for the count of ``element`` (m,)."""
        return F.leaky_relu(self.to_count(features) + self.element_in_count(element), 0.1)

    @torch.no_grad()
    def draw(self, classes: Tensor, uniforms: np.ndarray) -> np.ndarray:
        """Draw formulas.

        Args:
            classes: int64 (n,), the class of each, 0 without classes.
            uniforms: float32 (n, 16) in [0, 1): per slot one for the element, one for the count.

        Returns:
            cells, int64 (n, 8), ascending.
        """
        device = classes.device  # what follows is `decisions`, in place and without gradient
        state = self.classes(classes)
        active = np.arange(len(classes))
        last = np.full(len(classes), -1)
        cells = np.full((len(classes), N_SLOTS), N_CELLS)
        for slot in range(N_SLOTS):
            first = F.leaky_relu_(state + self.places[slot], 0.1)
            features = F.leaky_relu_(self.hidden(first), 0.1).add_(first)
            scores = F.linear(features, self.element.weight, self.element_bias[slot])
            weights = torch.softmax(scores, dim=1)
            place = _choose_element(weights, uniforms[active, 2 * slot], last, slot == 0)
            going = np.flatnonzero(place < N_ELEMENTS)
            if not len(going):
                break
            last, active = place[going], active[going]
            if len(going) < len(place):
                rows = torch.from_numpy(going).to(device)
                features, state = features.index_select(0, rows), state.index_select(0, rows)
            hidden = self.to_count(features)
            hidden.add_(self.element_in_count(torch.from_numpy(last).to(device)))
            weights = torch.softmax(self.count(F.leaky_relu_(hidden, 0.1)), dim=1)
            cell = last * N_COUNTS + _choose(weights, uniforms[active, 2 * slot + 1])
            cells[active, slot] = cell
            state.add_(self.cells(torch.from_numpy(cell).to(device)))
        return cells

    def decisions(self, cells: Tensor, classes: Tensor) -> Decisions:
        """Evaluate every decision that led to the cells (n, 8) of classes (n,), with gradient."""
        width = min(N_SLOTS, int((cells < N_CELLS).sum(dim=1).max()) + 1)
        cells = cells[:, :width]
        place = torch.div(cells, N_COUNTS, rounding_mode="floor")  # N_ELEMENTS where empty
        before = F.pad(place[:, :-1], (1, 0), value=-1)
        row, slot = (before < N_ELEMENTS).nonzero(as_tuple=True)
        vectors = self.cells(cells)
        states = [self.classes(classes)]
        for i in range(width - 1):
            states.append(states[-1] + vectors[:, i])
        features = self.features(
            torch.cat(states).index_select(0, slot * len(cells) + row),
            F.embedding(slot, self.places),
        )
        chosen = place[row, slot]
        places = torch.arange(N_ELEMENTS + 1, device=cells.device)
        barred = places <= before[row, slot][:, None]
        barred |= (slot == 0)[:, None] & (places == N_ELEMENTS)
        scores = self.element(features) + F.embedding(slot, self.element_bias)
        scores = scores.masked_fill(barred, -torch.inf)
        log_element = -F.cross_entropy(scores, chosen, reduction="none")
        going = (chosen < N_ELEMENTS).nonzero()[:, 0]
        count_features = self.count_features(features.index_select(0, going), chosen[going])
        count = cells[row[going], slot[going]] % N_COUNTS
        log_count = -F.cross_entropy(self.count(count_features), count, reduction="none")
        return Decisions(row, features, log_element, going, count_features, log_count)


class Decisions(NamedTuple):
    """The d decisions on elements behind n samples, and the c on counts among them.

    Attributes:
        row: int64 (d,), the sample.
        features: (d, width).
        log_element: (d,), log-probability of the element, or the end, that was chosen.
        going: int64 (c,), the decisions that chose an element.
        count_features: (c, count_width).
        log_count: (c,), log-probability of the count that was chosen.
    """

    row: Tensor
    features: Tensor
    log_element: Tensor
    going: Tensor
    count_features: Tensor
    log_count: Tensor


def _choose_element(
    weights: Tensor, uniforms: np.ndarray, last: np.ndarray, first: bool
) -> np.ndarray:
    """Choose places beyond ``last`` by weights (n, 86); see `kernels.choose_element`."""
    if weights.device.type == "cpu":
        return np.asarray(kernels.choose_element(weights.numpy(), uniforms, last, first))
    u, before = torch.from_numpy(uniforms), torch.from_numpy(last)
    place = choose_element(weights, u.to(weights.device), before.to(weights.device), first)
    return np.asarray(place.cpu().numpy())


def _choose(weights: Tensor, uniforms: np.ndarray) -> np.ndarray:
    """Choose columns by weights (n, m); see `kernels.choose`."""
    if weights.device.type == "cpu":
        return np.asarray(kernels.choose(weights.numpy(), uniforms))
    u = torch.from_numpy(uniforms).to(weights.device)
    return np.asarray(choose(weights, u).cpu().numpy())


def choose_element(weights: Tensor, uniforms: Tensor, last: Tensor, first: bool) -> Tensor:
    """`kernels.choose_element` in tensor operations, for devices other than the CPU."""
    places = torch.arange(weights.shape[1], device=weights.device)[None, :]
    allowed = places > last[:, None]
    end = weights.shape[1] - 1
    if first:
        allowed = allowed & (places < end)
    return choose(weights * allowed, uniforms).clamp(max=end - 1 if first else end)


def choose(weights: Tensor, uniforms: Tensor) -> Tensor:
    """`kernels.choose` in tensor operations, for devices other than the CPU."""
    cumulative = weights.cumsum(dim=1)
    level = uniforms[:, None] * cumulative[:, -1:]
    return (cumulative <= level).sum(dim=1).clamp(max=weights.shape[1] - 1)


class SumCritic(nn.Module):
    """Values one-hot matrices by their cells and by sums over atoms."""

    counts: Tensor

    def __init__(self, width: int, charges: int, n_classes: int) -> None:
        super().__init__()
        self.cells = nn.Linear(N_CELLS, width)
        self.classes = nn.Embedding(max(1, n_classes), width)
        self.charges = nn.Linear(N_ELEMENTS, charges, bias=False)
        self.mix = nn.Linear(width + charges + 2, width)
        self.hidden = nn.Linear(width, width)
        self.value = nn.Linear(width, 1)
        self.register_buffer("counts", torch.arange(1.0, N_COUNTS + 1), persistent=False)
        with torch.no_grad():
            self.cells.weight.normal_(std=0.5)
            self.charges.weight.normal_(std=0.3)
            self.classes.weight.mul_(0.5 if n_classes else 0.0)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Values (n,) of matrices (n, 680), one-hot or between, of classes int64 (n,)."""
        matrix = x.view(-1, N_ELEMENTS, N_COUNTS)
        atoms = matrix @ self.counts  # (n, 85)
        first = F.leaky_relu(self.cells(x) + self.classes(classes), 0.2)
        sizes = (0.3 * x.sum(dim=1, keepdim=True), 0.1 * atoms.sum(dim=1, keepdim=True))
        features = torch.cat([first, *sizes, self.charges(atoms)], dim=1)
        mixed = F.leaky_relu(self.mix(features), 0.2)
        mixed = F.leaky_relu(self.hidden(mixed), 0.2) + mixed
        value: Tensor = self.value(mixed)[:, 0]
        return value


class Expectation(nn.Module):
    """The critic's value expected at each decision: the policy gradient's baseline."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.element = nn.Linear(width, 1)
        self.count = nn.Linear(max(16, width // 3), 1)
        with torch.no_grad():
            self.element.weight.zero_()
            self.count.weight.zero_()


# --- the paper's networks ----------------------------------------------------------------


class ConvGenerator(nn.Module):
    """Noise (n, 128), and a one-hot class, to matrices (n, 85, 8) of values in 0 to 1.

    A dense layer makes 6 x 4 maps; transposed convolutions enlarge them to 11 x 8, 22 x 8, 43 x 8
    and 85 x 8, with batch normalisation and ReLU between and a sigmoid at the end.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.width = width
        self.dense = nn.Linear(LATENT + n_classes, width * 24)
        sizes = (width, max(1, width // 2), max(1, width // 4), max(1, width // 8), 1)
        self.start = nn.BatchNorm1d(width * 24)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(sizes[0], sizes[1], 5, 2, 2, output_padding=(0, 1)),
            nn.BatchNorm2d(sizes[1]),
            nn.ReLU(),
            nn.ConvTranspose2d(sizes[1], sizes[2], 3, (2, 1), 1, output_padding=(1, 0)),
            nn.BatchNorm2d(sizes[2]),
            nn.ReLU(),
            nn.ConvTranspose2d(sizes[2], sizes[3], 3, (2, 1), 1),
            nn.BatchNorm2d(sizes[3]),
            nn.ReLU(),
            nn.ConvTranspose2d(sizes[3], sizes[4], 3, (2, 1), 1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        with torch.no_grad():
            last.bias.fill_(FIRST_LOGIT)

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        """Values (n, 85, 8) of noise (n, 128) and classes int64 (n,)."""
        maps = F.relu(self.start(self.dense(_with_classes(noise, classes, self.n_classes))))
        x: Tensor = torch.sigmoid(self.layers(maps.view(-1, self.width, 6, 4)))
        return x[:, 0]


class ConvCritic(nn.Module):
    """Values matrices (n, 680) by five convolutions and a dense layer, LeakyReLU between."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        sizes = (max(1, width // 8), max(1, width // 4), max(1, width // 2))
        self.layers = nn.Sequential(
            nn.Conv2d(1, sizes[0], 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(sizes[0], sizes[0], 3, (2, 1), 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(sizes[0], sizes[1], 3, (2, 1), 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(sizes[1], sizes[2], 3, (2, 1), 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(sizes[2], width, 5, 2, 2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
        )
        self.value = nn.Linear(width * 24 + n_classes, 1)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """Values (n,) of matrices (n, 680) of classes int64 (n,)."""
        maps = self.layers(x.view(-1, 1, N_ELEMENTS, N_COUNTS))
        value: Tensor = self.value(_with_classes(maps, classes, self.n_classes))[:, 0]
        return value


def _with_classes(x: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    if not n_classes:
        return x
    return torch.cat([x, F.one_hot(classes, n_classes).to(x)], dim=1)
