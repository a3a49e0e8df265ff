"""Radial bases: a distance as a few smooth numbers."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn


class RadialBasis(Protocol):
    """A module that lays a distance on K functions, and says in ``num_kernels`` how many they are.

    Shapes
    ------
    distance : (E,)
    output : (E, K)
    """

    @property
    def num_kernels(self) -> int:
        """K."""
        ...

    def __call__(self, distance: Tensor) -> Tensor:
        """Value of each function at each distance."""
        ...


class BesselBasis(nn.Module):
    """Spherical Bessel functions ``sqrt(2 / c) sin(n pi d / c) / d`` for n from 1 to K, and their limit at 0.

    They are zero at the cut-off c. Beyond it they go on, ever smaller: an envelope ends them.

    Parameters
    ----------
    num_kernels
        K.
    cutoff
        c, in the unit of the distances. Frequencies n pi / c are learned from there on.

    Shapes
    ------
    distance : (E,)
    output : (E, K)

    References
    ----------
    Gasteiger et al., Directional message passing for molecular graphs (DimeNet), ICLR 2020, eq. 7.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import BesselBasis
    >>> BesselBasis(num_kernels=1, cutoff=2.0)(torch.tensor([0.0, 1.0])).detach().flatten()
    tensor([1.5708, 1.0000])
    """

    def __init__(self, num_kernels: int = 16, cutoff: float = 20.0) -> None:
        super().__init__()
        _check_positive(self, num_kernels=num_kernels, cutoff=cutoff)
        self.num_kernels = num_kernels
        self.cutoff = cutoff
        self.frequency = nn.Parameter(math.pi / cutoff * torch.arange(1, num_kernels + 1))

    def forward(self, distance: Tensor) -> Tensor:
        """Value of each function at each distance."""
        # torch's sinc is sin(pi x) / (pi x), with its limit and its derivative at 0
        return math.sqrt(2 / self.cutoff) * self.frequency * torch.sinc(distance[:, None] * self.frequency / math.pi)


class ExponentialBasis(nn.Module):
    """Gaussians along ``exp(-d / length)``, dense at short distances: PhysNet's.

    ``exp(-width_k (exp(-d / length) - mean_k)^2)``, with means spread evenly from ``exp(-c / length)`` to 1 and
    one width for all at the start; both are learned. Beyond the cut-off c all of them level off.

    Parameters
    ----------
    num_kernels
        K, at least 2.
    cutoff
        c, in the unit of the distances.
    length
        Distance at which the exponential has fallen to 1 / e; None for a fifth of the cut-off.

    Shapes
    ------
    distance : (E,)
    output : (E, K)

    References
    ----------
    Unke and Meuwly, PhysNet, J. Chem. Theory Comput. 15 (2019), eq. 7.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import ExponentialBasis
    >>> ExponentialBasis(num_kernels=4)(torch.tensor([0.0, 1.0])).shape
    torch.Size([2, 4])
    """

    def __init__(self, num_kernels: int = 16, cutoff: float = 20.0, length: float | None = None) -> None:
        super().__init__()
        _check_positive(self, num_kernels=num_kernels - 1, cutoff=cutoff, length=1.0 if length is None else length)
        self.num_kernels = num_kernels
        self.cutoff = cutoff
        self.length = length
        self.decay = 5 / cutoff if length is None else 1 / length
        end = math.exp(-cutoff * self.decay)
        self.mean = nn.Parameter(torch.linspace(end, 1, num_kernels))
        self.width = nn.Parameter(torch.full((num_kernels,), (2 / num_kernels * (1 - end)) ** -2))

    def forward(self, distance: Tensor) -> Tensor:
        """Value of each function at each distance."""
        return torch.exp(-self.width.abs() * (torch.exp(-self.decay * distance)[:, None] - self.mean) ** 2)


def _check_positive(basis: nn.Module, **arguments: float) -> None:
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{type(basis).__name__} needs a larger {name}.")
