"""Distances beyond which there is nothing, and how to get there smoothly.

A bias that goes to zero at a cut-off is no cut-off: attention counts an edge of bias zero like any other. What makes a
message of physics vanish smoothly is a factor, the envelope; as a factor of an attention weight it is a summand of the
logit, ``log(envelope)``, minus infinity at the cut-off and beyond, which hides the edge. `CutoffBias` adds that.
`EnvelopedBasis` multiplies a radial basis instead, as published: the network on it sees zeros beyond, and the edge
stays visible, with the same bias as any other far edge of its type.
"""

import math

import torch
from torch import Tensor, nn


class CosineEnvelope(nn.Module):
    """``(cos(pi d / c) + 1) / 2`` up to the cut-off c and 0 beyond: SchNet's and Behler's.

    Parameters
    ----------
    cutoff
        c, in the unit of the distances.

    Shapes
    ------
    distance, output : (E,)

    References
    ----------
    Behler and Parrinello, Phys. Rev. Lett. 98 (2007), eq. 4.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import CosineEnvelope
    >>> CosineEnvelope(10.0)(torch.tensor([0.0, 5.0, 10.0, 20.0]))
    tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = _checked(cutoff)

    def forward(self, distance: Tensor) -> Tensor:
        """From 1 at distance 0 to 0 at the cut-off."""
        # By the square of a cosine nothing is lost to rounding near the cut-off
        near = torch.cos(math.pi / 2 * (distance / self.cutoff).clamp(0, 1)) ** 2
        return torch.where(distance < self.cutoff, near, 0)


class PolynomialEnvelope(nn.Module):
    """DimeNet's polynomial, 1 at 0 and 0 from the cut-off on, with first and second derivative.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` for x = d / c.

    Parameters
    ----------
    cutoff
        c, in the unit of the distances.
    exponent
        p, at least 1; the larger, the later it falls.

    Shapes
    ------
    distance, output : (E,)

    References
    ----------
    Gasteiger et al., Directional message passing for molecular graphs (DimeNet), ICLR 2020, eq. 8.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import PolynomialEnvelope
    >>> PolynomialEnvelope(10.0)(torch.tensor([0.0, 5.0, 10.0, 20.0]))
    tensor([1.0000, 0.8555, 0.0000, 0.0000])
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__()
        if exponent < 1:
            raise ValueError(f"PolynomialEnvelope needs an exponent of at least 1, not {exponent}.")
        self.cutoff = _checked(cutoff)
        self.exponent = exponent

    def forward(self, distance: Tensor) -> Tensor:
        """From 1 at distance 0 to 0 at the cut-off."""
        p, x = self.exponent, (distance / self.cutoff).clamp(0, 1)
        near = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        return torch.where(distance < self.cutoff, near.clamp_min(0), 0)


class EnvelopedBasis(nn.Module):
    """A radial basis that ends smoothly: times an envelope.

    Parameters
    ----------
    basis
        A `stgraph.nn.distance_bias.RadialBasis`.
    envelope
        `CosineEnvelope`, `PolynomialEnvelope`, or another module from (E,) distances to (E,) factors.

    Shapes
    ------
    distance : (E,)
    output : (E, K)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import BesselBasis, CosineEnvelope, EnvelopedBasis
    >>> EnvelopedBasis(BesselBasis(3, cutoff=5.0), CosineEnvelope(5.0))(torch.tensor([7.0])).abs().detach()
    tensor([[0., 0., 0.]])
    """

    def __init__(self, basis: nn.Module, envelope: nn.Module) -> None:
        super().__init__()
        self.basis = basis
        self.envelope = envelope

    @property
    def num_kernels(self) -> int:
        """K, of the basis."""
        return int(self.basis.num_kernels)  # type: ignore[arg-type]

    def forward(self, distance: Tensor) -> Tensor:
        """Value of each function at each distance."""
        out: Tensor = self.envelope(distance)[:, None] * self.basis(distance)
        return out


class CutoffBias(nn.Module):
    """A distance bias plus the logarithm of an envelope, so that attention weights go smoothly to zero.

    At the cut-off and beyond it is minus infinity, which hides the edge. A node without other edges then attends to
    nothing and gets zero.

    Parameters
    ----------
    inner
        A `stgraph.nn.distance_bias.DistanceBias`; a tabulated one goes in here, for tables hold no infinities.
    envelope
        `CosineEnvelope`, `PolynomialEnvelope`, or another module from (E,) distances to (E,) factors.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import CosineEnvelope, CutoffBias, NoBias
    >>> bias = CutoffBias(NoBias(heads=1), CosineEnvelope(10.0))
    >>> bias(torch.tensor([0.0, 5.0, 10.0]), torch.zeros(3, dtype=torch.long)).flatten()
    tensor([ 0.0000, -0.6931,    -inf])
    """

    def __init__(self, inner: nn.Module, envelope: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.envelope = envelope

    @property
    def heads(self) -> int:
        """H, of the inner bias."""
        return int(self.inner.heads)  # type: ignore[arg-type]

    @property
    def num_edge_types(self) -> int | None:
        """Edge types that the inner bias tells apart."""
        return self.inner.num_edge_types  # type: ignore[return-value]

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        factor = self.envelope(distance)
        seen = factor > 0
        # The logarithm of 0 has no gradient, and 0 times it would be none either
        logarithm = torch.where(seen, torch.log(torch.where(seen, factor, 1)), -torch.inf)
        out: Tensor = self.inner(distance, edge_type) + logarithm[:, None]
        return out


def _checked(cutoff: float) -> float:
    if not cutoff > 0:
        raise ValueError(f"A cut-off must be above 0, not {cutoff}.")
    return cutoff
