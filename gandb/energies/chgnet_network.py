"""The network of CHGNet: from bonds and angles to an energy, and its derivative by every bond.

B. Deng et al., "CHGNet as a pretrained universal neural network potential for charge-informed
atomistic modelling", doi:10.1038/s42256-023-00716-3. Atoms (64 features) hear of their neighbours
along bonds (up to 6 Å), bonds up to 3 Å of each other along angles. Energies are sums over atoms,
to which the composition adds a linear term.

What differs from the package is the order of the arithmetic alone. A gated layer of the paper acts
on the joined features of a bond's ends and the bond itself; here each part is multiplied by its
share of the weights first, where there are few rows, and the products are added where there are
many. Gradients end at the vectors of the bonds, as forces and stress are sums over these.
"""
# mypy: disable-error-code="no-untyped-call, no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

ATOM_CUTOFF, BOND_CUTOFF = 6.0, 3.0
"""How long bonds are, and those that angles are between, Å."""
_POWER = 8
"""Of the polynomial that takes bonds to 0 at the cutoff."""
_WIDTH = 64


@dataclass(frozen=True, eq=False)
class Graph:
    """Atoms, bonds and angles of n crystals; indices are int64.

    Attributes:
        numbers: (atoms,), atomic numbers.
        owners: (atoms,), which crystal each atom belongs to.
        n_crystals: n.
        first, second: (bonds,), the atoms at both ends.
        short: (short bonds,), the bonds that angles are between.
        centres, one, other, signs: of the angles, see `gandb.energies.neighbours.Angles`; bonds are
            counted among the short ones.
    """

    numbers: Tensor
    owners: Tensor
    n_crystals: int
    first: Tensor
    second: Tensor
    short: Tensor
    centres: Tensor
    one: Tensor
    other: Tensor
    signs: Tensor


@dataclass(frozen=True, eq=False)
class _Gated:
    """A gated layer: silu(norm(core)) * sigmoid(norm(gate)), of inputs that come in parts.

    Attributes:
        parts: (width, 128) for each part of the input, core and gate side by side.
        bias: (128,).
        second: weights (2, 64, 64) and bias (2, 1, 64) of core and gate; None without hidden layer.
        norms: scale and shift of core and gate, (64,) each.
    """

    parts: tuple[Tensor, ...]
    bias: Tensor
    second: tuple[Tensor, Tensor] | None
    norms: tuple[Tensor, Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], name: str, n_parts: int) -> _Gated:
        hidden = f"{name}.mlp_core.layers.3.weight" in state
        at = 0 if hidden else 1
        weights = [state[f"{name}.mlp_{k}.layers.{at}.weight"] for k in ("core", "gate")]
        biases = [state[f"{name}.mlp_{k}.layers.{at}.bias"] for k in ("core", "gate")]
        joined = torch.cat(weights).T.contiguous()
        second = None
        if hidden:
            own = [state[f"{name}.mlp_{k}.layers.3.weight"].T for k in ("core", "gate")]
            shift = [state[f"{name}.mlp_{k}.layers.3.bias"] for k in ("core", "gate")]
            second = torch.stack(own).contiguous(), torch.stack(shift)[:, None]
        return cls(
            parts=tuple(p.contiguous() for p in joined.split(joined.shape[0] // n_parts)),
            bias=torch.cat(biases),
            second=second,
            norms=(
                state[f"{name}.bn1.weight"],
                state[f"{name}.bn1.bias"],
                state[f"{name}.bn2.weight"],
                state[f"{name}.bn2.bias"],
            ),
        )

    def __call__(self, summed: Tensor) -> Tensor:
        """Finish the layer from the sum of all parts and the bias, (rows, 128)."""
        return _Finished.apply(summed, self)


class _Finished(torch.autograd.Function):
    """What a gated layer does with the sum of its parts, with its derivative written out.

    Torch would keep and pass over three times as many arrays, and these passes are most of the
    time on a processor.
    """

    @staticmethod
    def forward(ctx: Any, summed: Tensor, layer: _Gated) -> Tensor:
        kept: list[Tensor] = []
        both = summed
        if layer.second is not None:
            weights, bias = layer.second
            opened = torch.sigmoid(summed)
            silu = summed * opened
            both = torch.empty_like(summed)
            for k, half in enumerate(_HALVES):
                torch.addmm(bias[k], silu[:, half], weights[k], out=both[:, half])
            kept += [opened, silu]
        scale, shift, gate_scale, gate_shift = layer.norms
        core, gate = (both[:, half].contiguous() for half in _HALVES)
        normed, mean, deviation = torch.native_layer_norm(core, [_WIDTH], scale, shift, _EPSILON)
        gated, gate_mean, gate_deviation = torch.native_layer_norm(
            gate, [_WIDTH], gate_scale, gate_shift, _EPSILON
        )
        opened = torch.sigmoid(normed)
        silu = normed.mul_(opened)
        gated = torch.sigmoid(gated)
        out = silu * gated
        kept += [core, gate, mean, deviation, gate_mean, gate_deviation, opened, silu, gated, out]
        ctx.save_for_backward(*kept)
        ctx.layer = layer
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        layer: _Gated = ctx.layer
        scale, shift, gate_scale, gate_shift = layer.norms
        *first, core, gate, mean, deviation, gate_mean, gate_deviation, opened, silu, gated, out = (
            ctx.saved_tensors
        )
        of_core = _silu_slope(opened, silu).mul_(gated).mul_(slope)
        of_gate = slope * out
        of_gate.addcmul_(of_gate, gated, value=-1)
        only = [True, False, False]
        of_core = torch.ops.aten.native_layer_norm_backward(
            of_core, core, [_WIDTH], mean, deviation, scale, shift, only
        )[0]
        of_gate = torch.ops.aten.native_layer_norm_backward(
            of_gate, gate, [_WIDTH], gate_mean, gate_deviation, gate_scale, gate_shift, only
        )[0]
        if layer.second is None:
            return torch.cat([of_core, of_gate], 1), None
        weights, _ = layer.second
        slopes = torch.empty_like(first[0])
        for k, (half, own) in enumerate(zip(_HALVES, (of_core, of_gate), strict=True)):
            torch.mm(own, weights[k].T, out=slopes[:, half])
        return slopes.mul_(_silu_slope(*first)), None


_HALVES = slice(0, _WIDTH), slice(_WIDTH, 2 * _WIDTH)
_EPSILON = 1e-5


def _silu_slope(opened: Tensor, silu: Tensor) -> Tensor:
    """Return the derivative of silu(x), from sigmoid(x) and silu(x)."""
    return torch.addcmul(opened, opened, silu, value=-1).add_(silu)


class Network:
    """CHGNet with the weights of its package.

    Args:
        state: the weights by the names that the package gives them.
        device: where to compute.
        dtype: in which precision.
    """

    def __init__(
        self, state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        own = {k: v.to(device=device, dtype=dtype) for k, v in state.items()}
        self.device, self.dtype = device, dtype
        self._composition = own["composition_model.fc.weight"].view(-1).double()
        self._atoms = own["atom_embedding.embedding.weight"]
        basis = "bond_basis_expansion.rbf_expansion_"
        self._frequencies = own[f"{basis}ag.frequencies"], own[f"{basis}bg.frequencies"]
        self._angular = own["angle_basis_expansion.fourier_expansion.frequencies"]
        self._bonds = torch.cat([own["bond_embedding.weight"], own["bond_weights_ag.weight"]]).T
        self._short = own["bond_weights_bg.weight"].T
        self._angles = own["angle_embedding.weight"].T
        n = sum(
            k.startswith("atom_conv_layers") and k.endswith("mlp_out.layers.1.weight") for k in own
        )
        atom, bond, angle = "atom_conv_layers", "bond_conv_layers", "angle_layers"
        self._atom_layers = [_Gated.of(own, f"{atom}.{i}.twoBody_atom", 3) for i in range(n)]
        self._bond_layers = [_Gated.of(own, f"{bond}.{i}.twoBody_bond", 4) for i in range(n - 1)]
        self._angle_layers = [_Gated.of(own, f"{angle}.{i}.twoBody_bond", 4) for i in range(n - 1)]
        self._atom_out = [own[f"{atom}.{i}.mlp_out.layers.1.weight"].T for i in range(n)]
        self._bond_out = [own[f"{bond}.{i}.mlp_out.layers.1.weight"].T for i in range(n - 1)]
        self._norm = own["readout_norm.weight"], own["readout_norm.bias"]
        self._readout = [
            (own[f"mlp.layers.{i}.weight"], own[f"mlp.layers.{i}.bias"]) for i in (0, 2, 4, 7)
        ]

    @property
    def n_elements(self) -> int:
        """How many elements it knows, from hydrogen on."""
        return len(self._atoms)

    def energies(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies, and their derivatives by the vectors of the bonds.

        Args:
            graph: of n crystals.
            vectors: (bonds, 3), from the second atom to the first, Å.

        Returns:
            (n,) eV, float64, and (bonds, 3) eV/Å.
        """
        vectors = vectors.detach().requires_grad_(True)
        energies = self._energies(graph, vectors)
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        return energies.detach(), gradient

    def _energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        radial = self._radial(lengths, self._frequencies[0], ATOM_CUTOFF)
        bonds, weights = (radial @ self._bonds).split(_WIDTH, dim=1)
        n_short = len(graph.short)
        if n_short:
            short_lengths = lengths.index_select(0, graph.short)
            units = vectors.index_select(0, graph.short) / short_lengths[:, None]
            radial = self._radial(short_lengths, self._frequencies[1], BOND_CUTOFF)
            short_weights = radial @ self._short
            pair = units.index_select(0, graph.one) * units.index_select(0, graph.other)
            cosines = pair.sum(1) * graph.signs * (1 - 1e-6)
            angles = self._angular_basis(torch.acos(cosines)) @ self._angles
            pair_weights = short_weights.index_select(0, graph.one)
            pair_weights = pair_weights * short_weights.index_select(0, graph.other)

        atoms = self._atoms.index_select(0, graph.numbers - 1)
        last = len(self._atom_layers) - 1
        for i, layer in enumerate(self._atom_layers):
            messages = self._atom_messages(layer, graph, atoms, bonds)
            messages = (messages.view(2, -1, _WIDTH) * weights).view(-1, _WIDTH)
            ends = torch.cat([graph.first, graph.second])
            heard = torch.zeros_like(atoms).index_add(0, ends, messages)
            atoms = atoms + heard @ self._atom_out[i]
            if i == last or not n_short:
                continue
            own = bonds.index_select(0, graph.short)
            update = self._angle_sums(self._bond_layers[i], graph, atoms, own, angles)
            update = self._bond_layers[i](update) * pair_weights
            told = torch.zeros_like(own).index_add(0, graph.one, update)
            bonds = bonds.index_add(0, graph.short, told @ self._bond_out[i])
            if i == last - 1:
                continue  # nothing hears of the angles any more
            own = bonds.index_select(0, graph.short)
            angle_layer = self._angle_layers[i]
            angles = angles + angle_layer(self._angle_sums(angle_layer, graph, atoms, own, angles))
        sites = functional.layer_norm(atoms, (_WIDTH,), *self._norm)
        for weight, bias in self._readout[:-1]:
            sites = functional.silu(functional.linear(sites, weight, bias))
        sites = functional.linear(sites, *self._readout[-1]).view(-1).double()
        sites = sites + self._composition.index_select(0, graph.numbers - 1)
        return sites.new_zeros(graph.n_crystals).index_add(0, graph.owners, sites)

    @staticmethod
    def _atom_messages(layer: _Gated, graph: Graph, atoms: Tensor, bonds: Tensor) -> Tensor:
        """Return what is said along each bond, first to its first atom, then to its second."""
        centre, bond, neighbour = layer.parts
        centres, neighbours = (atoms @ torch.cat([centre, neighbour], 1)).split(2 * _WIDTH, 1)
        along = torch.addmm(layer.bias, bonds, bond)
        ends = torch.cat([graph.first, graph.second])
        starts = torch.cat([graph.second, graph.first])
        summed = centres.index_select(0, ends) + neighbours.index_select(0, starts)
        summed = summed.view(2, -1, 2 * _WIDTH) + along
        return layer(summed.view(-1, 2 * _WIDTH))

    @staticmethod
    def _angle_sums(
        layer: _Gated, graph: Graph, atoms: Tensor, bonds: Tensor, angles: Tensor
    ) -> Tensor:
        one, other, angle, centre = layer.parts
        ones, others = (bonds @ torch.cat([one, other], 1)).split(2 * _WIDTH, 1)
        summed = torch.addmm(layer.bias, angles, angle)
        summed = summed + ones.index_select(0, graph.one)
        summed = summed + others.index_select(0, graph.other)
        return summed + (atoms @ centre).index_select(0, graph.centres)

    @staticmethod
    def _radial(lengths: Tensor, frequencies: Tensor, cutoff: float) -> Tensor:
        """Return the smooth radial Bessel functions of lengths, (bonds, 31)."""
        own = lengths[:, None]
        scaled = own / cutoff
        p = _POWER
        smooth = (
            1
            - (p + 1) * (p + 2) / 2 * scaled**p
            + p * (p + 2) * scaled ** (p + 1)
            - p * (p + 1) / 2 * scaled ** (p + 2)
        )
        smooth = torch.where(scaled < 1, smooth, torch.zeros_like(smooth))
        return smooth * (2 / cutoff) ** 0.5 * torch.sin(frequencies * scaled) / own

    def _angular_basis(self, angles: Tensor) -> Tensor:
        """Return the Fourier series of angles, (angles, 31)."""
        waves = torch.outer(angles, self._angular)
        level = torch.full_like(waves[:, :1], 0.5**0.5)
        return torch.cat([level, torch.sin(waves), torch.cos(waves)], 1) / np.sqrt(np.pi)
