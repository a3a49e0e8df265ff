import numpy as np
import pytest
import scipy.sparse as sp
from anndata import read_h5ad

from stgraph.errors import InputError
from stgraph.preprocess.check_counts import check_counts, look_normalised
from stgraph.preprocess.count_matrix import count_matrix


def test_logarithms_are_told_from_counts():
    counts = np.random.default_rng(0).poisson(2.0, size=(50, 20))
    for values, expected in (
        (np.log1p(counts * 100.0), True),
        (np.log1p(counts).astype(np.float32), True),
        (counts, False),
        (counts.astype(np.float32), False),
        (counts * 123.4, False),  # fractions, but large: of a measure of area, say
        (np.zeros((2, 20)), False),
    ):
        assert look_normalised(count_matrix(values, [str(i) for i in range(20)])) is expected


def counts_of(seed=0, cells=60, genes=40, mean=2.0):
    return np.random.default_rng(seed).poisson(mean, size=(cells, genes)).astype(np.float64)


def scaled(counts, depth=1e4):
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * depth


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.log1p(counts_of()), r"look like logarithms of counts \(fractions such as 1\.\d+, and none is above 20\)"),
        (np.log2(counts_of() + 1), "look like logarithms of counts"),  # of which many are whole numbers
        (np.log1p(scaled(counts_of())), "are natural logarithms of counts that were scaled to 10000 a cell"),
        (np.log1p(scaled(counts_of())).astype(np.float32), "are natural logarithms of counts that were scaled to 1"),
        (np.log2(scaled(counts_of(), 1e6) + 1), r"are logarithms to base 2 of counts that were scaled to 1e\+06 a"),
        (scaled(counts_of()), r"were scaled so that each cell sums to 10000 \(such as"),
        (scaled(counts_of(), 1.0), "were scaled so that each cell sums to 1 "),
        (np.rint(scaled(counts_of())), "sum to about 10000 in each cell and are hardly ever 1"),
        (scaled(counts_of())[:, :30], r"are no whole numbers \(such as"),
        (counts_of() * 12.3, r"are no whole numbers \(such as .* expected counts, round them"),
        (np.sqrt(counts_of()), "look like logarithms"),
    ],
    ids=range(11),
)
def test_what_is_no_count_is_recognised(values, reason):
    names = [str(i) for i in range(values.shape[1])]
    with pytest.raises(InputError, match=f"s1 has values in X that {reason}.*but raw counts are needed: put these"):
        check_counts(count_matrix(values, names, name="s1"), "s1")


def downsampled(counts, depth):
    rng = np.random.default_rng(1)
    molecules = [np.repeat(np.arange(counts.shape[1]), row.astype(int)) for row in counts]
    taken = [rng.choice(row, size=depth, replace=False) for row in molecules]
    return np.stack([np.bincount(row, minlength=counts.shape[1]) for row in taken])


@pytest.mark.parametrize(
    "values",
    [
        counts_of(),
        counts_of().astype(np.int64),
        counts_of().astype(np.float32),
        (counts_of() > 0).astype(np.int32),
        downsampled(counts_of(mean=4.0), 60),  # a constant depth, but counts
        counts_of(genes=5, mean=300.0),  # few genes of high counts
        np.zeros((3, 4)),
        np.zeros((0, 4)),
        np.full((1, 12), 7),
    ],
    ids=range(9),
)
def test_counts_pass(values):
    check_counts(count_matrix(values, [str(i) for i in range(values.shape[1])]))


def checked(values):
    check_counts(count_matrix(values, [str(i) for i in range(values.shape[1])]))


def to_median(counts):
    depth = counts.sum(axis=1, keepdims=True)
    return np.rint(counts / np.maximum(depth, 1) * np.median(depth))


def of_depths(cells=300, genes=60, mean=2.0, spread=0.5, seed=0):
    """Counts of cells of different depths, as of any tissue."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(sigma=spread, size=(cells, 1))
    return rng.poisson(mean * depth * rng.gamma(1.0, size=genes)).astype(np.float64)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (of_depths() * 1000, "are all multiples of 1000, so that they were scaled"),
        (np.rint(of_depths() * 37.5), "are never 1 in 300 cells"),
        (np.rint(np.log2(scaled(of_depths()) + 1)), "are never 1 in 300 cells"),
        (np.floor(np.log1p(scaled(of_depths()))).astype(np.int64), "are never 1 in 300 cells"),
        (to_median(of_depths()), r"in \d\d% of cells have a least value above 1 that many genes share"),
        (to_median(of_depths(genes=400)), r"in \d\d% of cells have a least value above 1 that many genes share"),
    ],
    ids=["x 1000", "x 37.5", "log2", "log1p", "median", "median of many genes"],
)
def test_whole_numbers_that_were_not_counted(values, reason):
    with pytest.raises(InputError, match=f"The slice has values in X that {reason}"):
        checked(values)


@pytest.mark.parametrize("genes", [12, 20, 40])
@pytest.mark.parametrize("mean", [0.3, 1.0, 4.0, 15.0, 100.0])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_counts_of_panels_pass_whatever_their_depth(genes, mean, spread):
    """Of few genes, often without a 1 in a cell; alike or not."""
    rng = np.random.default_rng(0)
    checked(of_depths(500, genes, mean, spread))
    checked(rng.poisson(mean * rng.lognormal(sigma=spread, size=(500, 1)), (500, genes)))


def test_few_values_may_have_a_divisor():
    checked(2 * of_depths(cells=10))


REAL = (
    "breast_xenium_visium/visium_breast_roi",
    "breast_xenium_visium/xenium_breast_roi",
    "dlpfc/dlpfc_151673",
    "dlpfc/dlpfc_151675",
    *(f"her2st/her2st_{section}" for section in ("A1", "B1", "C1", "C2", "C3", "C4", "D1")),
    "merfish_hypothalamus/merfish_hypothalamus_3slices",
    "osmfish/osmfish_ss_cortex_all6471",
    "starmap_mvc/starmap_mvc_BY3_1k",
)


def real(data_dir, name):
    counts = sp.csr_matrix(read_h5ad(data_dir / f"{name}.h5ad").X)
    if "merfish" in name:  # one matrix of three sections: any cells of it
        counts = counts[:6000]
    return counts.astype(np.float64)


def mapped(counts, function):
    made = counts.copy()
    made.data = function(made.data)
    return made


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_counts_pass_whole_thinned_and_cut(data_dir, name):
    """Also shallow, and each cell at the same depth as far as it has so much."""
    counts, rng = real(data_dir, name), np.random.default_rng(0)
    checked(counts)
    for share in (0.1, 0.02):
        checked(mapped(counts, lambda data, share=share: rng.binomial(data.astype(np.int64), share)))
    depth = np.asarray(counts.sum(axis=1)).ravel()
    to_one = np.repeat(np.minimum(1, np.median(depth) / 2 / np.maximum(depth, 1)), np.diff(counts.indptr))
    checked(mapped(counts, lambda data: rng.binomial(data.astype(np.int64), to_one)))
    few = rng.choice(counts.shape[0], 100, replace=False)
    checked(counts[few])
    most = np.argsort(-np.asarray(counts.sum(axis=0)).ravel())[:15]
    checked(counts[:, most])  # the least likely genes to have a 1
    checked(counts[np.argsort(-depth)[:300]])  # and cells


@pytest.mark.real
@pytest.mark.parametrize("name", [*REAL[1:2], *REAL[3:5], *REAL[-3:]])
def test_real_counts_are_refused_once_scaled(data_dir, name):
    counts = real(data_dir, name)
    depth = np.asarray(counts.sum(axis=1)).ravel()

    def to(target):
        return sp.csr_matrix(sp.diags(target / np.maximum(depth, 1)) @ counts)

    for made in (
        counts * 1000,
        mapped(counts, lambda data: np.rint(data * 37.5)),
        mapped(to(1e4), np.rint),
        mapped(to(np.median(depth[depth > 0])), np.rint),
        mapped(to(1e4), lambda data: np.rint(np.log2(data + 1))),
        mapped(to(1e4), lambda data: np.floor(np.log1p(data))),  # of deeper spots, nearly all 1 and 2, it may pass
    ):
        with pytest.raises(InputError, match="but raw counts are needed"):
            checked(made)
