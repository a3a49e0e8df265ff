import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_medians import SMALLEST, GeneMedians, gene_medians
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs

GENES = list("abcdef")


def random_counts(n, seed, dtype=np.int32, genes=6):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.lognormal(0, 2, genes), (n, genes))
    counts[rng.random(n) < 0.1] = 0
    return (counts * rng.lognormal(size=counts.shape) if np.dtype(dtype).kind == "f" else counts).astype(dtype)


def true_medians(counts, genes=GENES):
    """Plainly: dense, all cells at once."""
    counts = counts.astype(np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    values = counts / counts.sum(axis=1, keepdims=True) * 10_000
    return {gene: np.median(v[v > 0]) for gene, v in zip(genes, values.T, strict=True) if (v > 0).any()}


@settings(max_examples=25)
@given(
    st.integers(1, 60),
    st.integers(0, 10**6),
    st.sampled_from([np.int32, np.float64]),
    st.sampled_from([0.0005, 0.005, 0.1]),
)
def test_medians_are_within_the_stated_error(n, seed, dtype, error):
    counts = random_counts(n, seed, dtype)
    expected = true_medians(counts)
    sketch = GeneMedians(error).add(counts, GENES)
    assert sketch.num_cells == (counts.sum(axis=1) > 0).sum()
    assert sketch.num_values() == dict(zip(GENES, (counts > 0).sum(axis=0).tolist(), strict=True))
    if not expected:
        with pytest.raises(InputError, match="No gene has counts in 1 cells or more"):
            sketch.medians()
        return
    medians = sketch.medians()
    assert medians.keys() == expected.keys()
    for gene, median in medians.items():
        assert abs(median - expected[gene]) <= error * expected[gene] * (1 + 1e-9)


def test_the_ends_of_the_scale():
    counts = np.array([[1.0, 0, 0], [0, 1e-5 / 1e4, 1.0], [0, 1e-12, 1.0]])
    medians = GeneMedians(0.001).add(counts, list("abc")).medians()
    assert medians["a"] == pytest.approx(10_000, rel=0.001)
    assert medians["b"] == pytest.approx(SMALLEST, rel=0.0021)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 10**6), st.randoms())
def test_shards_merged_in_any_order_are_one_pass(sizes, seed, random):
    chunks = [random_counts(n, seed + i) for i, n in enumerate(sizes)]
    whole = GeneMedians().add(np.concatenate(chunks), GENES)
    # Each shard sees the genes in an order of its own.
    shards = []
    for chunk in chunks:
        order = random.sample(range(len(GENES)), len(GENES))
        shards.append(GeneMedians().add(chunk[:, order], [GENES[i] for i in order]))
    random.shuffle(shards)
    merged = GeneMedians()
    for shard in shards:
        merged.merge(GeneMedians.load_state(shard.state()))
    assert (merged.num_cells, merged.num_values()) == (whole.num_cells, whole.num_values())
    if whole.num_cells:
        assert merged.medians() == whole.medians()


def test_slices_of_different_panels_in_one_pass():
    counts = [random_counts(30, seed, genes=4) for seed in range(3)]
    panels = [["a", "b", "c", "d"], ["d", "c", "e", "f"], ["a", "f", "g", "b"]]
    medians = gene_medians(((sp.csr_matrix(c), panel) for c, panel in zip(counts, panels, strict=True)))
    expected = {}
    for gene in "abcdefg":
        values = []
        for c, panel in zip(counts, panels, strict=True):
            cells = c[c.sum(axis=1) > 0]
            if gene in panel:
                values.append((cells / cells.sum(axis=1, keepdims=True) * 10_000)[:, panel.index(gene)])
        found = np.concatenate(values)
        if found.any():
            expected[gene] = np.median(found[found > 0])
    assert medians.keys() == expected.keys()
    assert all(medians[gene] == pytest.approx(expected[gene], rel=0.005) for gene in expected)


def test_columns_of_one_gene_are_summed_or_left():
    counts = np.array([[3, 5, 2]])
    with pytest.warns(StgraphWarning, match=r"s1 has 3 columns for 2 genes.*their counts are summed"):
        summed = GeneMedians().add(counts, ["a", "b", "a"], name="s1").medians()
    assert summed["a"] == pytest.approx(5000, rel=0.005)
    with pytest.warns(StgraphWarning, match="each counts as a value of its own"):
        kept = GeneMedians().add(counts, ["a", "b", "a"], collisions="keep")
    assert kept.num_values() == {"a": 2, "b": 1}
    assert kept.medians()["a"] == pytest.approx(2500, rel=0.005)


def test_genes_are_named_by_a_vocabulary_and_the_depth_is_of_all():
    vocabulary = GeneVocabulary({"<pad>": 0, "<mask>": 1, "ENSG00000000001": 2}, {}, {"ONE": "ENSG00000000001"})
    orthologs = Orthologs({"ENSMUSG00000000007": "ENSG00000000001"})
    human = ad.AnnData(np.array([[1.0, 9.0]]), var=pd.DataFrame(index=["ONE", "other"]))
    mouse = ad.AnnData(np.array([[1.0, 9.0]]), var=pd.DataFrame(index=["ENSMUSG00000000007", "x"]))
    for cells, table in ((human, None), (mouse, orthologs), ((human.X, ["ENSG00000000001", ""]), None)):
        with pytest.warns(StgraphWarning, match="1 genes of 2 that are not in the vocabulary"):
            medians = gene_medians([cells], vocabulary=vocabulary, orthologs=table)
        assert list(medians) == ["ENSG00000000001"]
        assert medians["ENSG00000000001"] == pytest.approx(1000, rel=0.005)
    assert list(gene_medians([mouse], orthologs=orthologs)) == ["ENSG00000000001", "x"]


def test_rare_genes_are_left_out_if_asked():
    counts = np.array([[1, 1], [1, 0]])
    assert list(gene_medians([(counts, ["a", "b"])], min_cells=2)) == ["a"]
    with pytest.raises(InputError, match="No gene has counts in 3 cells or more"):
        gene_medians([(counts, ["a", "b"])], min_cells=3)


def test_memory_grows_with_genes_and_not_with_cells():
    sketch = GeneMedians()
    for seed in range(3):
        sketch.add(random_counts(50, seed), GENES)
    # Four bytes times ln(1e8) / ln(1.005 / 0.995) steps, as promised.
    assert sketch.state()["tally"].nbytes / len(GENES) == pytest.approx(4 * 9.2 / 0.005, rel=0.01)


def test_bad_sketches_are_refused():
    with pytest.raises(InputError, match=r"relative_error from 0\.0001 to 0\.5, not 0"):
        GeneMedians(0)
    with pytest.raises(InputError, match=r"made for errors of 0\.01 and 0\.005 cannot be merged"):
        GeneMedians(0.01).merge(GeneMedians())
    with pytest.raises(InputError, match="No gene has counts"):
        gene_medians([])
    state = GeneMedians().add(np.ones((1, 2)), ["a", "b"]).state()
    with pytest.raises(InputError, match="must hold"):
        GeneMedians.load_state({"genes": state["genes"]})
    with pytest.raises(InputError, match="do not fit together"):
        GeneMedians.load_state(state | {"relative_error": np.array([0.1])})
    full = GeneMedians()
    full.num_cells = 2**32 - 1
    with pytest.raises(InputError, match="cannot count more than 4294967295 cells"):
        full.add(np.ones((1, 2)), ["a", "b"])


@pytest.mark.real
def test_medians_of_real_tissue(data_dir):
    adata = ad.read_h5ad(data_dir / "starmap_mvc" / "starmap_mvc_BY3_1k.h5ad")
    expected = true_medians(adata.X.toarray(), list(adata.var_names))
    medians = gene_medians([adata])
    assert medians.keys() == expected.keys()
    ratio = np.array([medians[gene] / expected[gene] for gene in medians])
    assert np.abs(ratio - 1).max() <= 0.005 * (1 + 1e-9)
