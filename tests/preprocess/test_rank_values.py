import dataclasses
import os
from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.rank_values import RankValueTokenizer

GENES = [f"ENSG{i:011d}" for i in range(40)]
STRANGERS = ["new1", "new2"]
VOCABULARY = GeneVocabulary.of_medians(
    dict(zip(GENES, np.random.default_rng(0).lognormal(size=40).tolist(), strict=True))
)
LEVEL = GeneVocabulary.of_medians(dict.fromkeys(GENES, 1.0))
"""All medians alike: small counts tie."""

pytestmark = pytest.mark.filterwarnings("ignore:The slice has . genes of .. that are not in the vocabulary")


def published(counts, genes, vocabulary, max_length=2048, kind="stable"):
    """The published tokenizer, written plainly: a dense matrix, cells one by one, no special case."""
    dense = np.asarray(counts.todense() if sp.issparse(counts) else counts)
    n_counts = dense.sum(axis=1)
    known = [j for j, gene in enumerate(genes) if gene in vocabulary.medians]
    tokens = np.array([vocabulary.tokens[genes[j]] for j in known])
    medians = np.array([vocabulary.medians[genes[j]] for j in known])
    cells, values = [], []
    for i in range(len(dense)):
        value = dense[i, known] / max(n_counts[i], 1e-300) * 10_000 / medians
        nonzero = np.flatnonzero(value)
        order = nonzero[np.argsort(-value[nonzero], kind=kind)]
        cells.append([vocabulary.cls, *tokens[order].tolist()][:max_length])
        values.append(value[order])
    return cells, values


def as_lists(cells):
    return [cells[i].tolist() for i in range(len(cells))]


def random_counts(n, seed, mean=1.0, dtype=np.int32, genes=42):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.lognormal(size=genes) * mean, (n, genes))
    counts[rng.random(n) < 0.1] = 0
    return sp.csr_matrix((counts * rng.random(counts.shape) if dtype == np.float64 else counts).astype(dtype))


@pytest.mark.filterwarnings("ignore:.*look like logarithms")  # small fractions
@settings(max_examples=30)
@given(
    st.integers(1, 30),
    st.integers(0, 10**6),
    st.sampled_from([0.05, 1.0, 20.0]),
    st.sampled_from([np.int32, np.float64]),
    st.sampled_from([2, 5, 2048]),
    st.booleans(),
)
def test_cells_are_those_of_the_published_tokenizer(n, seed, mean, dtype, max_length, shuffled):
    # Columns in the order of the vocabulary, so that its sort, made stable, breaks ties as ours does.
    genes, counts = GENES + STRANGERS, random_counts(n, seed, mean, dtype)
    for vocabulary in (VOCABULARY, LEVEL):
        expected = published(counts, genes, vocabulary, max_length)[0]
        order = np.random.default_rng(seed).permutation(42) if shuffled else np.arange(42)
        cells = RankValueTokenizer(vocabulary, max_length).encode(counts[:, order], [genes[j] for j in order])
        assert as_lists(cells) == expected


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 2.0]))
def test_random_ties_only_exchange_what_ties(seed, mean):
    counts = random_counts(20, seed, mean)
    _, values = published(counts, GENES + STRANGERS, LEVEL)
    tokenizer = RankValueTokenizer(LEVEL, ties="random", random_state=seed)
    cells = tokenizer.encode(counts, GENES + STRANGERS)
    dense = counts.toarray()
    for i in range(len(cells)):
        columns = cells[i][1:] - 2
        assert sorted(columns) == np.flatnonzero(dense[i, :40]).tolist()
        np.testing.assert_allclose(dense[i, columns] / max(dense[i].sum(), 1) * 10_000, values[i])


def test_random_ties_are_a_function_of_the_seed_and_the_row():
    counts = sp.csr_matrix(np.ones((3000, 40), dtype=np.int32))
    first, again, other = (
        RankValueTokenizer(LEVEL, ties="random", random_state=seed).encode(counts, GENES) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (first.tokens != other.tokens).mean() > 0.9
    rest = RankValueTokenizer(LEVEL, ties="random").encode(counts[1234:], GENES, first_row=1234)
    np.testing.assert_array_equal(rest.tokens, first.tokens[first.indptr[1234] :])
    # Each gene comes first equally often, and after each other gene half of the time.
    rows = first.tokens.reshape(3000, 41)[:, 1:]
    expected = 3000 / 40
    place = np.argsort(rows, axis=1)
    for k in (0, 1, 39):
        chi2 = ((np.bincount(rows[:, k] - 2, minlength=40) - expected) ** 2 / expected).sum()
        assert chi2 < 80  # 39 degrees of freedom: beaten once in ten thousand
    before = (place[:, :, None] < place[:, None, :]).mean(axis=0)[~np.eye(40, dtype=bool)]
    assert np.abs(before - 0.5).max() < 0.05


def test_truncation_of_random_ties_keeps_the_highest_values():
    counts = sp.csr_matrix(np.r_[[5] * 10, [1] * 30].astype(np.int32)[None])
    cells = RankValueTokenizer(LEVEL, max_length=16, ties="random").encode(counts, GENES)
    assert sorted(cells[0][1:11]) == list(range(2, 12))
    assert len(cells[0]) == 16
    assert min(cells[0][11:-1]) > 11


def test_values_that_differ_in_the_last_bits_are_in_order():
    # Their upper 32 bits are the same, so that the fast sort cannot tell them apart.
    steps = np.random.default_rng(1).permutation(40).tolist()
    medians = {gene: 1.0 + k * 2.0**-52 for k, gene in zip(steps, GENES, strict=True)}
    vocabulary = GeneVocabulary.of_medians(medians)
    counts = np.full((4, 40), 2.0**20)
    genes = list(np.random.default_rng(0).permutation(GENES))
    cells = RankValueTokenizer(vocabulary).encode(counts, genes)
    by_token = [vocabulary.genes[token - 2] for token in cells[0][1:]]
    values = np.array([2.0**20 / (40 * 2.0**20) * 10_000 / medians[gene] for gene in by_token])
    assert (np.diff(values) <= 0).all()
    assert len(np.unique(values)) > 10
    tied = np.diff(values) == 0
    assert (np.diff(cells[0][1:])[tied] > 0).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ties", ["vocabulary", "random"])
def test_how_many_threads_there_are_does_not_matter(monkeypatch, threads, ties):
    counts = random_counts(6001, 3)
    tokenizer = RankValueTokenizer(VOCABULARY, ties=ties, max_length=12)
    expected = [
        tokenizer.encode(counts[i : i + 1], GENES + STRANGERS, first_row=i)[0].tolist() for i in (0, 3000, 6000)
    ]
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    cells = tokenizer.encode(counts, GENES + STRANGERS)
    assert [cells[i].tolist() for i in (0, 3000, 6000)] == expected


def test_the_form_of_the_matrix_does_not_matter():
    counts, genes = random_counts(50, 5), GENES + STRANGERS
    tokenizer = RankValueTokenizer(VOCABULARY)
    expected = tokenizer.encode(counts, genes)
    unsorted = counts.copy()
    for row in range(50):
        span = slice(*counts.indptr[row : row + 2])
        unsorted.indices[span], unsorted.data[span] = counts.indices[span][::-1], counts.data[span][::-1]
    zeros = counts.copy()
    zeros.data[::3] = 0
    twice = sp.csr_matrix(
        (np.repeat(counts.data, 2), np.repeat(counts.indices, 2), 2 * counts.indptr), shape=counts.shape
    )
    wide = sp.csr_matrix((counts.data, counts.indices.astype(np.int64), counts.indptr.astype(np.int64)))
    forms = [counts.toarray(), counts.tocsc(), counts.astype(np.uint8), counts.astype(np.float32), unsorted, wide]
    # Each entry given twice doubles all counts, and changes no rank.
    for form in [*forms, twice]:
        assert as_lists(tokenizer.encode(form, genes)) == as_lists(expected)
    without = zeros.copy()
    without.eliminate_zeros()
    assert as_lists(tokenizer.encode(zeros, genes)) == as_lists(tokenizer.encode(without, genes))


def test_genes_without_a_token_count_for_the_depth_alone():
    vocabulary = GeneVocabulary.of_medians({"A": 3.0, "B": 1.0})
    counts = np.array([[3, 2, 95]])
    with pytest.warns(StgraphWarning, match="s1 has 1 genes of 3 that are not in the vocabulary"):
        cells = RankValueTokenizer(vocabulary).encode(counts, ["A", "B", "C"], with_values=True, name="s1")
    assert cells[0].tolist() == [4, 3, 2]
    np.testing.assert_allclose(cells.values, [0, 200, 300])


def test_without_a_class_token_there_is_room_for_one_more():
    counts = np.array([[3, 2, 1], [0, 0, 0]])
    with_cls = RankValueTokenizer(LEVEL, max_length=2).encode(counts, GENES[:3])
    without = RankValueTokenizer(LEVEL, max_length=2, cls=False).encode(counts, GENES[:3])
    assert as_lists(with_cls) == [[42, 2], [42]]
    assert as_lists(without) == [[2, 3], []]
    assert len(RankValueTokenizer(LEVEL).encode(np.zeros((0, 3)), GENES[:3])) == 0


def test_columns_of_one_token_are_summed_before_they_are_ranked():
    counts = np.array([[3, 4, 2, 0], [0, 1, 0, 1]])
    genes = [GENES[1], GENES[0], GENES[1] + ".7", GENES[1]]
    with pytest.warns(StgraphWarning, match="s1 has 3 genes that share 1 tokens; their counts are summed"):
        summed = RankValueTokenizer(LEVEL).encode(counts, genes, with_values=True, name="s1")
    assert as_lists(summed) == [[42, 3, 2], [42, 2, 3]]
    np.testing.assert_allclose(summed.values[1:3], [5 / 9 * 10_000, 4 / 9 * 10_000])
    with pytest.warns(StgraphWarning, match="each gives the token once"):
        kept = RankValueTokenizer(LEVEL, collisions="keep").encode(counts, genes, with_values=True)
    assert as_lists(kept) == [[42, 2, 3, 3], [42, 2, 3]]
    np.testing.assert_allclose(kept.values[1:4] / 10_000 * 9, [4, 3, 2])


@pytest.mark.filterwarnings("ignore:The slice has .* share")
@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_collisions_left_are_those_of_the_published_tokenizer(seed):
    # Several mouse columns of one human id, as SToFM leaves them.
    human = [GENES[k] for k in np.sort(np.random.default_rng(seed).integers(0, 10, 42))]
    counts = random_counts(10, seed)
    cells = RankValueTokenizer(VOCABULARY, collisions="keep").encode(counts, human)
    assert as_lists(cells) == published(counts, human, VOCABULARY)[0]


def test_a_slice_is_encoded_by_the_best_names_it_has():
    var = pd.DataFrame({"ensembl_id": ["ENSMUSG00000000001", ""]}, index=["One", GENES[3]])
    adata = ad.AnnData(sp.csr_matrix([[1, 2]]), var=var, obs=pd.DataFrame({"slice_id": ["s1"]}, index=["c"]))
    tokenizer = RankValueTokenizer(LEVEL)
    orthologs = Orthologs({"ENSMUSG00000000001": GENES[7]})
    assert tokenizer.encode_slice(adata, orthologs=orthologs)[0].tolist() == [42, 5, 9]
    with pytest.warns(StgraphWarning, match=r"s1 has 1 genes of 2 that are not.*\('ENSMUSG00000000001'\)"):
        assert tokenizer.encode_slice(adata)[0].tolist() == [42, 5]
    with pytest.raises(InputError, match="s1 has no counts in X"):
        tokenizer.encode_slice(ad.AnnData(obs=adata.obs, var=var))


def test_genes_without_a_median_are_left_out_and_told():
    vocabulary = dataclasses.replace(LEVEL, medians={GENES[1]: 1.0})
    with pytest.warns(StgraphWarning, match="The slice has 1 genes that have a token and no median"):
        cells = RankValueTokenizer(vocabulary).encode(np.array([[5, 1]]), GENES[:2])
    assert cells[0].tolist() == [42, 3]
    with (
        pytest.warns(StgraphWarning, match="no median"),
        pytest.raises(InputError, match="no gene with a median in the vocabulary"),
    ):
        RankValueTokenizer(vocabulary).encode(np.array([[5]]), GENES[:1])


def test_it_is_a_part_of_a_run():
    tokenizer = RankValueTokenizer(LEVEL, 100, ties="random", collisions="keep", random_state=3)
    assert instantiate(to_config(tokenizer)) == tokenizer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "needs room for a gene: max_length 1"),
        ({"max_length": 0, "cls": False}, "max_length 0 is too short"),
        ({"max_length": 5.0}, "needs room for a gene"),
        ({"ties": "stable"}, r"knows ties \('vocabulary', 'random'\), not 'stable'"),
        ({"collisions": "mean"}, "knows collisions"),
        ({"random_state": -1}, "random_state of 0 or more, not -1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RankValueTokenizer(LEVEL, **options)


def test_bad_counts_are_refused():
    tokenizer = RankValueTokenizer(LEVEL)
    with pytest.raises(InputError, match="negative or not finite"):
        tokenizer.encode(np.array([[-1.0, 2]]), GENES[:2])
    with pytest.raises(InputError, match="counts of 2 genes, but 3 names"):
        tokenizer.encode(np.array([[1.0, 2]]), GENES[:3])
    with pytest.raises(InputError, match=r"none of which is in the vocabulary.*orthologs"):
        tokenizer.encode(np.array([[1.0, 2]]), STRANGERS)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::stgraph.errors.StgraphWarning")
@pytest.mark.parametrize(
    ("path", "orthologs"),
    [
        ("dlpfc/dlpfc_151673.h5ad", False),
        ("merfish_hypothalamus/merfish_hypothalamus_3slices.h5ad", True),
        ("starmap_mvc/starmap_mvc_BY3_1k.h5ad", True),
    ],
)
def test_real_slices_are_encoded_as_published(data_dir, path, orthologs):
    folder = data_dir / "gene_vocab"
    vocabulary = GeneVocabulary.read(folder)
    adata = ad.read_h5ad(data_dir / path)[:150]
    ids = [name or "unmapped" for name in adata.var["ensembl_id"].astype(str)]
    if orthologs:
        ids = Orthologs.read(folder / "stofm_mouseid2humanid.tsv.gz").translate(ids)
    # In the order of the vocabulary, for then a stable sort breaks ties as documented.
    order = np.argsort(vocabulary.find(ids), kind="stable")
    counts, genes = sp.csr_matrix(adata.X)[:, order], [ids[j] for j in order]
    expected = published(counts, genes, vocabulary)[0]
    cells = RankValueTokenizer(vocabulary, collisions="keep").encode(adata.X, ids)
    assert as_lists(cells) == expected
    assert cells.lengths.max() <= 2048
    # With the published, unstable sort each cell still has the same values in the same order.
    unstable, values = published(counts, genes, vocabulary, kind="quicksort")
    for ours, theirs, value in zip(expected[:50], unstable[:50], values[:50], strict=True):
        distinct = np.flatnonzero(np.diff(value[: len(ours) - 1], prepend=np.inf, append=-np.inf) != 0)
        for begin, end in pairwise(distinct):
            if end < len(ours) - 1:
                assert sorted(ours[1 + begin : 1 + end]) == sorted(theirs[1 + begin : 1 + end])


def test_genes_without_counts_are_not_missed():
    tokenizer = RankValueTokenizer(GeneVocabulary.of_medians({"a": 1.0, "b": 1.0}))
    counts = sp.csr_matrix(np.array([[1, 2, 0], [3, 0, 0]]))
    assert len(tokenizer.encode(counts, ["a", "b", "x"])) == 2  # a warning would be an error
    explicit = sp.csr_matrix((np.array([1, 2, 0, 3]), ([0, 0, 0, 1], [0, 1, 2, 0])), shape=(2, 3))
    assert explicit.nnz == 4
    assert len(tokenizer.encode(explicit, ["a", "b", "x"])) == 2  # zeros that are stored are no counts
    with pytest.warns(StgraphWarning, match=r"1 genes of 3 that are not in the vocabulary .*'x'"):
        tokenizer.encode(sp.csr_matrix(np.array([[1, 2, 1]])), ["a", "b", "x"])


def test_logarithms_are_told():
    tokenizer = RankValueTokenizer(GeneVocabulary.of_medians({"a": 1.0, "b": 1.0}))
    with pytest.warns(StgraphWarning, match="s1 has values in X that look like logarithms"):
        tokenizer.encode(np.log1p(np.array([[1.0, 2.0], [3.0, 0.0]])), ["a", "b"], name="s1")
