import numpy as np
import pytest

from stgraph.metrics.genes import gene_scores
from stgraph.tasks.gene_judge import gene_judge


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    truth = np.log1p(rng.poisson(1.0, (300, 6))).astype(float)
    said = truth + rng.normal(size=truth.shape) * np.arange(6)
    return truth, said, rng.integers(0, 10, 300)


def expected(truth, said):
    scores = gene_scores(truth, said)
    return {
        f"gene_{m}{suffix}": f(scores[m])
        for m in ("pearson", "spearman")
        for suffix, f in (("", np.nanmean), ("_median", np.nanmedian))
    }


def test_all_cells_are_scored_as_gene_scores_does(values):
    truth, said, _ = values
    assert gene_judge(*values)(np.arange(300)) == pytest.approx(expected(truth, said))


def test_draws_of_blocks_are_scored_as_their_cells(values):
    truth, said, blocks = values
    judge, rng = gene_judge(*values), np.random.default_rng(1)
    for _ in range(10):
        rows = np.concatenate([np.flatnonzero(blocks == b) for b in rng.integers(0, 10, 10)])
        found, wanted = judge(rows), expected(truth[rows], said[rows])
        assert found["gene_pearson"] == pytest.approx(wanted["gene_pearson"])
        assert found["gene_pearson_median"] == pytest.approx(wanted["gene_pearson_median"])
        # Ranks are those among all cells.
        assert found["gene_spearman"] == pytest.approx(wanted["gene_spearman"], abs=0.01)


def test_constant_genes(values):
    truth, said, blocks = (array.copy() for array in values)
    said[:, 0] = 0.1  # the prediction alone: counts as nothing found
    truth[:, 1] = 0.3  # nothing to find: does not count
    assert gene_judge(truth, said, blocks)(np.arange(300)) == pytest.approx(expected(truth, said))
    inside = truth.copy()
    inside[blocks == 3] = inside[blocks == 3][0]  # constant within one block only
    found = gene_judge(inside, said, blocks)(np.flatnonzero(blocks == 3))
    assert np.isnan(found["gene_pearson"])
