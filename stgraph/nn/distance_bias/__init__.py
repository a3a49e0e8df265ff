"""What a distance adds to the attention of each head.

All are modules ``forward(distance (E,), edge_type (E,)) -> (E, H)``: see `DistanceBias`.
"""

from stgraph.nn.distance_bias.base import DistanceBias
from stgraph.nn.distance_bias.bases import BesselBasis, ExponentialBasis, RadialBasis
from stgraph.nn.distance_bias.basis_bias import BasisBias
from stgraph.nn.distance_bias.bins import BinBias
from stgraph.nn.distance_bias.cutoff import CosineEnvelope, CutoffBias, EnvelopedBasis, PolynomialEnvelope
from stgraph.nn.distance_bias.gaussian import GaussianBias
from stgraph.nn.distance_bias.none import NoBias
from stgraph.nn.distance_bias.stofm import SToFMGaussianBias
from stgraph.nn.distance_bias.tabulated import TabulatedBias

__all__ = [
    "BasisBias",
    "BesselBasis",
    "BinBias",
    "CosineEnvelope",
    "CutoffBias",
    "DistanceBias",
    "EnvelopedBasis",
    "ExponentialBasis",
    "GaussianBias",
    "NoBias",
    "PolynomialEnvelope",
    "RadialBasis",
    "SToFMGaussianBias",
    "TabulatedBias",
]
