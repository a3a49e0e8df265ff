"""The figures the simple methods are known by: cortex regions on another section, cell types on another animal.

The bounds leave room for the digits a solver may change, not for another recipe.
"""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

import stgraph
from stgraph.baselines import (
    Banksy,
    GenePCA,
    NeighborMean,
    NeighborPCA,
    ReducedRankNeighbors,
    SmoothGeneMeans,
    SmoothGenes,
)
from stgraph.io.slices import split_slices
from stgraph.preprocess.encoder import LogPCA
from stgraph.preprocess.pearson import PearsonPCA, PearsonResiduals

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*count as average")]

LOGISTIC = LogisticRegression(max_iter=1000)
LDA = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


@pytest.fixture(scope="module")
def cortex(data_dir):
    return [stgraph.read(data_dir / "dlpfc" / f"dlpfc_{name}.h5ad") for name in ("151673", "151675")]


@pytest.fixture(scope="module")
def hypothalamus(data_dir):
    file = data_dir / "merfish_hypothalamus" / "merfish_hypothalamus_3slices.h5ad"
    return split_slices([stgraph.read(file, slice_key="sample", um_per_unit=1.0)])


def macro_f1(encoder, head, train, test, key):
    encoder.fit(train)
    x, y = np.concatenate([encoder.transform(adata) for adata in train]), np.concatenate([known(a, key) for a in train])
    scaler = StandardScaler().fit(x[y != ""])
    head.fit(scaler.transform(x[y != ""]), y[y != ""])
    truth = known(test, key)
    found = head.predict(scaler.transform(encoder.transform(test)[truth != ""]))
    return f1_score(truth[truth != ""], found, average="macro")


def known(adata, key):
    label = adata.obs[key].astype(object)
    return label.where(label.notna() & (label != "Ambiguous"), "").to_numpy(dtype=str)


@pytest.mark.parametrize(
    ("make", "head", "least"),
    [
        (lambda: LogPCA(whiten=False), LOGISTIC, 0.62),
        (NeighborPCA, LOGISTIC, 0.72),
        (lambda: NeighborMean(SmoothGenes(), 30), LOGISTIC, 0.72),
        (lambda: NeighborMean(GenePCA(), 30), LDA, 0.77),
        (ReducedRankNeighbors, LDA, 0.75),
        (lambda: Banksy(0.8), LDA, 0.76),
        (SmoothGeneMeans, LDA, 0.77),
        (lambda: SmoothGeneMeans(values=PearsonResiduals()), LDA, 0.75),
    ],
    ids=["pca", "neighbor_pca", "smooth", "neighbor_gene_pca", "reduced_rank", "banksy", "smooth_lda", "pearson_lda"],
)
def test_regions_of_cortex_on_another_section(cortex, make, head, least):
    assert least < macro_f1(make(), head, cortex[:1], cortex[1], "domain") < least + 0.08


def test_cell_types_in_another_animal(hypothalamus):
    train = [adata for name, adata in hypothalamus.items() if name.startswith("A1")]
    (test,) = (adata for name, adata in hypothalamus.items() if name.startswith("A7"))
    log = macro_f1(LogPCA(n_components=50, whiten=False), LOGISTIC, train, test, "cell_type")
    pearson = macro_f1(PearsonPCA(n_components=50), LOGISTIC, train, test, "cell_type")
    assert 0.66 < log < 0.72
    assert pearson > log + 0.03
