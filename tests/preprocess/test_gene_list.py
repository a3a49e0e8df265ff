import hashlib
import pickle

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_list import GeneList
from stgraph.preprocess.orthologs import Orthologs

GENES = ["MBP", "PLP1", "SNAP25", "VIP"]
NAMES = {"ENSG00000197971": "MBP", "PLP": "PLP1", "VIP": "PLP1"}


@pytest.fixture
def genes():
    return GeneList(GENES, NAMES)


def slice_of(var_names, counts=None, **columns):
    adata = AnnData(np.ones((2, len(var_names)), np.float32) if counts is None else np.array(counts, np.float32))
    adata.var_names = var_names
    for name, values in columns.items():
        adata.var[name] = values
    return adata


def test_tokens_are_numbered_as_in_the_published_vocabulary(genes):
    assert (genes.num_genes, genes.depth_tokens, genes.pad, genes.vocabulary_size) == (4, (4, 5), 6, 7)
    assert genes.find(["VIP", "plp", "ENSG00000197971.3", "?"]).tolist() == [3, 1, 0, -1]
    assert genes.find(["VIP", "plp"], ignore_case=False).tolist() == [3, -1]
    assert "VIP" not in genes.names  # a gene of the list is no other name of another


def test_it_is_given_back_by_its_state_config_and_pickle(genes):
    for each in (genes, GeneList(GENES)):
        each.find(["MBP"])
        assert GeneList.load_state(each.state()) == each
        assert instantiate(to_config(each)) == each
        assert pickle.loads(pickle.dumps(each)) == each
    state = genes.state()
    with pytest.raises(InputError, match="state of GeneList must hold"):
        GeneList.load_state({"genes": state["genes"]})
    with pytest.raises(InputError, match="do not fit together"):
        GeneList.load_state(state | {"names_of": state["names_of"][:3]})


def test_a_table_is_written_and_read_and_its_numbers_decide_the_order(genes, tmp_path):
    genes.write(tmp_path / "a.tsv.gz")
    assert GeneList.read(tmp_path / "a.tsv.gz") == GeneList(GENES)
    (tmp_path / "b.tsv").write_text("SNAP25\t2\nMBP\t0\nVIP\t3\nPLP1\t1\n")
    (tmp_path / "ids.tsv").write_text("MBP\tENSG00000197971\nACTB\tENSG00000075624\n")
    read = GeneList.read(tmp_path / "b.tsv", ensembl_ids=tmp_path / "ids.tsv")
    assert read == GeneList(GENES, {"ENSG00000197971": "MBP"})
    with pytest.raises(InputError, match=r"end in \.gz"):
        genes.write(tmp_path / "c.tsv")


@pytest.mark.parametrize("numbers", ["02", "00", "12", "0x", ["0", "-1"]])
def test_a_table_with_other_numbers_is_refused(numbers, tmp_path):
    (tmp_path / "a.tsv").write_text("gene_name\tindex\n" + "".join(f"G{i}\t{x}\n" for i, x in enumerate(numbers)))
    with pytest.raises(InputError, match="must number its 2 genes from 0 to 1, each once"):
        GeneList.read(tmp_path / "a.tsv")


def test_lists_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="at least one gene"):
        GeneList([])
    with pytest.raises(InputError, match="has 'B' twice"):
        GeneList(["A", "B", "C", "B"])
    with pytest.raises(InputError, match=r"has 1 further names of genes that are not in it, the first 'x' of 'y'"):
        GeneList(["A"], {"x": "y"})


def test_all_genes_of_some_slices_in_an_order_that_is_not_theirs():
    slices = [slice_of(["C", "A"]), slice_of(["B", "A"])]
    assert list(GeneList.of_slices(slices).genes) == list(GeneList.of_slices(slices[::-1]).genes) == ["A", "B", "C"]
    with pytest.warns(StgraphWarning, match="shares no gene with another slice .its first is 'X'.: use the same kind"):
        GeneList.of_slices([*slices, slice_of(["X"])])


def test_what_is_missing_renamed_extra_and_doubled_is_told(genes):
    names = ["Snap25", "GFAP", "ENSG00000197971.16", "MBP", "silent"]
    counted = np.array([True, True, True, True, False])
    with pytest.warns(StgraphWarning) as told:
        found = genes.align(names, counted=counted, name="s1")
    assert found.gene_of_column.tolist() == [2, -1, 0, 0, -1]
    assert found.panel.tolist() == [0, 2]
    assert found.missing == ("PLP1", "VIP")
    assert found.extra == ("GFAP", "silent")
    assert found.renamed == {"Snap25": "SNAP25", "ENSG00000197971.16": "MBP"}
    assert found.duplicated == {"MBP": ("ENSG00000197971.16", "MBP")}
    assert [str(each.message) for each in told] == [
        "s1 has 1 genes with counts, of 4, that are not in the list and get no token ('GFAP').",
        "s1 has 1 genes that are in the list only if case is ignored ('Snap25' as 'SNAP25'); for another species, ids "
        "with a table of orthologs are surer.",
        "s1 has 1 genes in several columns (ENSG00000197971.16 and MBP are 'MBP'); their counts are summed.",
    ]
    assert found.summary() == (
        "s1: 3 of its 5 genes are in the list (2 under another name, 1 of several columns, which are summed), 2 are "
        "not; 2 of 4 genes of the list are not measured."
    )


@given(st.permutations(GENES))
def test_no_order_of_columns_permutes_genes(names):
    found = GeneList(GENES).align(names)  # and nothing is told: a warning would be an error
    assert [GENES[number] for number in found.gene_of_column] == names
    assert [found.missing, found.extra, found.renamed, found.duplicated] == [(), (), {}, {}]


def test_too_many_unknown_genes_stop_the_run(genes):
    names = [f"ENSMUSG0000000000{i}" for i in range(7)] + ["MBP", "VIP"]
    message = (
        r"s1 has 7 genes with counts, of 9, that are not in the list of 4 \('ENSMUSG00000000000', .*, \.\.\.; the list "
        r"has 'MBP', .*'VIP'\): give the same kind of name.*orthologs for another species; or raise max_unknown"
    )
    with pytest.raises(InputError, match=message):
        genes.align(names, name="s1")
    with pytest.warns(StgraphWarning, match="7 genes with counts, of 9"):
        assert genes.align(names, max_unknown=0.8).panel.tolist() == [0, 3]
    # Genes without counts lose nothing.
    counted = np.array([False] * 7 + [True] * 2)
    assert genes.align(names, counted=counted).panel.tolist() == [0, 3]
    with pytest.raises(InputError, match="7 genes with counts, of 9"):
        genes.align(names, counted=np.zeros(9, dtype=bool))
    with pytest.raises(InputError, match="max_unknown is a share of genes, from 0 to 1, not 50"):
        genes.align(names, max_unknown=50)


def test_a_slice_is_known_by_any_of_its_names(genes):
    adata = slice_of(
        ["a", "Vip", "c", "d"],
        [[1, 2, 3, 0], [0, 1, 1, 0]],
        ensembl_id=["ENSG00000197971", "ENSMUSG00000019772", "", "ENSG1"],
        gene_symbol=["Mbp", "Vip", "SNAP25", "ACTB"],
    )
    with pytest.warns(StgraphWarning, match=r"1 genes .* only if case is ignored \('Vip' as 'VIP'\)"):
        found = genes.align_slice(adata)
    assert found.gene_of_column.tolist() == [0, 3, 2, -1]
    assert found.renamed == {"a": "MBP", "Vip": "VIP", "c": "SNAP25"}
    assert found.extra == ("d",)  # without counts, so that nobody is told


def test_a_slice_of_another_species_goes_by_a_table(genes):
    adata = slice_of(["Mbp", "Vip"], ensembl_id=["ENSMUSG00000041607.5", "ENSMUSG00000019772"])
    table = Orthologs({"ENSMUSG00000041607": "ENSG00000197971", "Vip": "VIP"})
    found = genes.align_slice(adata, orthologs=table)  # and nothing is guessed by case
    assert found.renamed == {"Mbp": "MBP", "Vip": "VIP"}
    assert found.gene_of_column.tolist() == [0, 3]


@pytest.mark.real
def test_the_list_of_19264_genes_and_a_mouse_panel(data_dir):
    path = data_dir / "gene_vocab" / "OS_scRNA_gene_index.19264.tsv"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("bb337ea1")
    genes = GeneList.read(path, ensembl_ids=data_dir / "gene_vocab" / "geneformer30M_gene_name_id.tsv.gz")
    assert (genes.genes[0], genes.genes[-1], genes.num_genes, genes.vocabulary_size) == ("A1BG", "ZZZ3", 19264, 19267)
    mbp = genes.genes.index("MBP")
    assert genes.find(["MBP", "ENSG00000197971", "ENSG00000197971.16", "Mbp"]).tolist() == [mbp] * 4
    assert GeneList.load_state(genes.state()) == genes
