import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_alignment import align_columns
from stgraph.preprocess.gene_list import GeneList

GENES = ["MBP", "PLP1", "SNAP25", "VIP"]


@pytest.fixture
def listed():
    return GeneList(GENES, {"ENSG1": "MBP", "ENSG2": "PLP1"})


@pytest.mark.parametrize("columns", list(itertools.permutations((["ENSG1", "?", "ENSG2"], ["MBP", "SNAP25", "VIP"]))))
def test_the_first_column_that_knows_a_gene_decides(listed, columns):
    found = align_columns(listed, columns, ["a", "b", "c"])
    last = 1 if columns[0][0] == "ENSG1" else 3  # the columns disagree about the third
    assert found.gene_of_column.tolist() == [0, 2, last]


def test_a_name_as_it_is_in_a_later_column_comes_before_a_guess_in_an_earlier(listed):
    found = align_columns(listed, [["mbp"], ["VIP"]], ["a"])  # and no warning: nothing was guessed
    assert found.gene_of_column.tolist() == [3]
    with pytest.warns(StgraphWarning, match=r"only if case is ignored \('a' as 'MBP'\)"):
        assert align_columns(listed, [["mbp"], ["?"]], ["a"]).gene_of_column.tolist() == [0]


@given(st.lists(st.sampled_from([*GENES, "x", "y", "z"]), min_size=1, max_size=9))
def test_everything_is_somewhere(names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stgraph.preprocess.gene_alignment._warn", lambda _: None)
        found = align_columns(GeneList(GENES), [names], names, max_unknown=1.0)
    assert [GENES[gene] if gene >= 0 else "?" for gene in found.gene_of_column] == [
        name if name in GENES else "?" for name in names
    ]
    assert found.panel.tolist() == sorted({GENES.index(name) for name in names if name in GENES})
    assert set(found.missing) == set(GENES) - set(names)
    assert list(found.extra) == [name for name in names if name not in GENES]
    assert found.duplicated == {
        gene: (gene,) * names.count(gene) for gene in sorted(set(names)) if gene in GENES and names.count(gene) > 1
    }
    assert found.renamed == {}


@pytest.mark.parametrize(("unknown", "share", "stops"), [(2, 0.5, False), (3, 0.5, True), (1, 0.0, True)])
def test_the_threshold_is_of_genes_with_counts(listed, unknown, share, stops):
    names = [*(f"x{i}" for i in range(unknown)), *GENES[: 4 - unknown], "silent"]
    counted = np.array([True] * 4 + [False])
    if stops:
        with pytest.raises(InputError, match=f"s has {unknown} genes with counts, of 4, that are not in the list of 4"):
            align_columns(listed, [names], names, counted=counted, max_unknown=share, name="s")
    else:
        with pytest.warns(StgraphWarning, match=f"s has {unknown} genes with counts, of 4, .* get no token"):
            align_columns(listed, [names], names, counted=counted, max_unknown=share, name="s")


def test_only_some_names_are_shown(listed):
    names = [*GENES, *(f"x{i}" for i in range(9))]
    with pytest.warns(StgraphWarning, match=r"\('x0', 'x1', 'x2', 'x3', 'x4', \.\.\.\)"):
        align_columns(listed, [names], names, max_unknown=0.9)


def test_the_summary_says_only_what_there_is(listed):
    assert align_columns(listed, [GENES], GENES, name="s").summary() == (
        "s: 4 of its 4 genes are in the list; 0 of 4 genes of the list are not measured."
    )
