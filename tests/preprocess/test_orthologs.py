import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs

TO_HUMAN = Orthologs({"ENSMUSG00000000001": "ENSG00000000011", "ENSMUSG00000000002": "ENSG00000000011", "m": "h"})


def test_ids_are_translated_without_their_version_and_strangers_stay():
    mouse = ["ENSMUSG00000000002.3", "m", "ENSG00000000011", "ENSMUSG00000000009.1"]
    assert TO_HUMAN.translate(mouse) == ["ENSG00000000011", "h", "ENSG00000000011", "ENSMUSG00000000009.1"]


def test_counts_of_one_ortholog_are_summed_and_no_count_is_lost():
    genes = ["m", "ENSMUSG00000000001", "new", "ENSMUSG00000000002"]
    counts = sp.csr_matrix(np.array([[1, 2, 3, 4], [0, 0, 5, 6]], dtype=np.int32))
    message = "s1 has 4 genes: 1 have no ortholog and keep their id; 4 have 3 ids.*their counts are summed"
    with pytest.warns(StgraphWarning, match=message):
        summed, ids = TO_HUMAN.translate_counts(counts, genes, name="s1")
    assert ids == ["h", "ENSG00000000011", "new"]
    np.testing.assert_array_equal(summed.toarray(), [[1, 6, 3], [0, 6, 5]])
    assert summed.dtype == np.int32


def test_or_they_are_left_as_they_are():
    counts = np.array([[1, 2]])
    with pytest.warns(StgraphWarning, match="they are left as they are"):
        kept, ids = TO_HUMAN.translate_counts(counts, ["ENSMUSG00000000001", "ENSMUSG00000000002"], collisions="keep")
    assert ids == ["ENSG00000000011"] * 2
    np.testing.assert_array_equal(kept.toarray(), counts)


def test_a_table_that_helps_nobody_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"s1 has 1 genes and none with an ortholog.*'Mbp'.*'ENSMUSG00000000001'"):
        TO_HUMAN.translate_counts(np.array([[1]]), ["Mbp"], name="s1")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(InputError, match="must not be empty"):
        Orthologs.read(tmp_path / "empty.tsv")


@pytest.mark.real
def test_the_shipped_table_has_the_collisions_that_are_known(data_dir):
    orthologs = Orthologs.read(data_dir / "gene_vocab" / "stofm_mouseid2humanid.tsv.gz")
    human = orthologs.translate(orthologs.ids)
    assert (len(human), len(set(human))) == (20473, 18180)
    tokens = GeneVocabulary.read(data_dir / "gene_vocab").find(human)
    columns = np.unique(tokens[tokens >= 0], return_counts=True)[1]
    assert (columns.sum(), len(columns), (columns > 1).sum()) == (18561, 17068, 494)
    assert (columns[columns > 1].sum(), columns.max()) == (1987, 105)
