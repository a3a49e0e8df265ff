"""Every baseline keeps the contract of a slice encoder."""

import pytest

from stgraph.baselines import (
    Banksy,
    Constant,
    GenePCA,
    NeighborMean,
    NeighborPCA,
    ReducedRankNeighbors,
    SmoothGeneMeans,
    SmoothGenes,
)
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.preprocess.pearson import PearsonPCA, PearsonResiduals
from stgraph.testing.encoders import SliceEncoderContract


class TestConstant(SliceEncoderContract):
    make = staticmethod(Constant)


class TestLogPCA(SliceEncoderContract):
    make = staticmethod(lambda: LogPCA(n_components=6, whiten=False))


class TestPearsonPCA(SliceEncoderContract):
    make = staticmethod(lambda: PearsonPCA(n_components=6))


class TestGenePCA(SliceEncoderContract):
    make = staticmethod(lambda: GenePCA(n_components=6, whiten=True))


class TestNeighborPCA(SliceEncoderContract):
    make = staticmethod(lambda: NeighborPCA(n_neighbors=9))


class TestNeighborMeanOfPearson(SliceEncoderContract):
    make = staticmethod(lambda: NeighborMean(PearsonPCA(n_components=6), n_neighbors=(4, 15)))


class TestSmoothGenes(SliceEncoderContract):
    make = staticmethod(lambda: SmoothGenes(30))


class TestSmoothGeneMeans(SliceEncoderContract):
    make = staticmethod(lambda: SmoothGeneMeans(n_components=12))


class TestSmoothResidualMeans(SliceEncoderContract):
    make = staticmethod(lambda: SmoothGeneMeans(values=PearsonResiduals(), n_neighbors=(5, 20), n_components=12))


class TestReducedRank(SliceEncoderContract):
    make = staticmethod(lambda: ReducedRankNeighbors(rank=4))


class TestBanksy(SliceEncoderContract):
    make = staticmethod(lambda: Banksy(lambda_=0.8, n_components=8))


@pytest.mark.parametrize(
    "encoder",
    [GenePCA(), SmoothGenes(), SmoothGeneMeans(), NeighborPCA(), ReducedRankNeighbors(), Banksy(), PearsonPCA()],
)
def test_fit_comes_first(encoder, tissue):
    with pytest.raises(InputError, match="not fitted"):
        encoder.transform(tissue)
