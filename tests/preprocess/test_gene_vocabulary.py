import dataclasses
import pickle

import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_vocabulary import GeneVocabulary

IDS = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"]
TOKENS = {"<pad>": 0, "<mask>": 1, IDS[0]: 2, IDS[1]: 3, IDS[2]: 4}
MEDIANS = {IDS[0]: 2.0, IDS[1]: 3.25}
NAMES = {
    "TSPAN6": IDS[0],
    "TNMD": IDS[1],
    "DPM1": IDS[2],
    "C9orf72": IDS[2],
    "ELSEWHERE": "ENSG00000099999",
    "": IDS[0],
}


@pytest.fixture
def vocabulary():
    return GeneVocabulary(TOKENS, MEDIANS, NAMES)


def test_the_class_token_follows_the_last_gene_unless_it_is_there(vocabulary):
    assert (vocabulary.pad, vocabulary.mask, vocabulary.cls, vocabulary.num_tokens) == (0, 1, 5, 6)
    given = GeneVocabulary({"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3, "A": 4}, {"A": 1.0})
    assert (given.cls, given.num_tokens, given.genes) == (2, 5, ["A"])


def test_genes_and_medians_by_token(vocabulary):
    assert vocabulary.genes == IDS
    np.testing.assert_array_equal(vocabulary.median_of_token, [np.nan, np.nan, 2.0, 3.25, np.nan, np.nan])


@pytest.mark.parametrize(
    ("name", "token", "cased"),
    [
        (IDS[1], 3, 3),
        (IDS[1] + ".12", 3, 3),
        (IDS[1].lower(), 3, -1),
        ("TSPAN6", 2, 2),
        ("Tspan6", 2, -1),
        ("c9orf72", 4, -1),
        ("TSPAN6.1", -1, -1),
        ("ELSEWHERE", -1, -1),
        ("<pad>", -1, -1),
        ("", -1, -1),
    ],
)
def test_names_are_found(vocabulary, name, token, cased):
    assert vocabulary.find([name]).tolist() == [token]
    assert vocabulary.find([name], ignore_case=False).tolist() == [cased]


def test_an_id_comes_before_a_name_and_what_is_ambiguous_is_not_found():
    vocabulary = GeneVocabulary.of_medians({"A": 1.0, "B": 1.0, "ab": 1.0, "AB": 1.0}, {"A": "B", "x": "A", "X": "B"})
    assert vocabulary.find(["A", "B", "ab", "AB", "Ab", "x", "X", "a"]).tolist() == [2, 3, 4, 5, -1, 2, 3, 2]


def test_what_is_not_found_is_told(vocabulary):
    with pytest.warns(
        StgraphWarning, match=r"^s1 has 4 genes of 5 that are not in the vocabulary.*\('a', 'b', 'c', \.\.\.\)"
    ):
        assert vocabulary.resolve(["a", "b", "TNMD", "c", "d"], name="s1").tolist() == [-1, -1, 3, -1, -1]
    with pytest.warns(
        StgraphWarning, match=r"s1 has 1 genes that are in the vocabulary only if case is ignored.*'Tnmd'"
    ):
        vocabulary.resolve(["Tnmd", "DPM1"], name="s1")
    with pytest.raises(InputError, match=r"s1 has 2 genes, none of which is in the vocabulary.*'a'.*'ENSG00000000003'"):
        vocabulary.resolve(["a", "b"], name="s1")
    assert vocabulary.resolve(IDS).tolist() == [2, 3, 4]  # nothing to tell: a warning would be an error here


def test_it_is_written_and_read_as_it_was(vocabulary, tmp_path):
    vocabulary.write(tmp_path)
    read = GeneVocabulary.read(tmp_path)
    assert read == vocabulary
    assert list(read.tokens) == list(vocabulary.tokens)
    (tmp_path / "gene_name_id.tsv.gz").unlink()
    assert GeneVocabulary.read(tmp_path) == dataclasses.replace(vocabulary, names={})


def test_its_state_its_config_and_its_pickle_give_it_back(vocabulary):
    for each in (vocabulary, dataclasses.replace(vocabulary, names={})):
        each.find(["TNMD"])
        assert GeneVocabulary.load_state(each.state()) == each
        assert instantiate(to_config(each)) == each
        assert pickle.loads(pickle.dumps(each)) == each
    state = vocabulary.state()
    with pytest.raises(InputError, match="must hold"):
        GeneVocabulary.load_state({name: array for name, array in state.items() if name != "tokens"})
    with pytest.raises(InputError, match="do not fit together"):
        GeneVocabulary.load_state(state | {"tokens": state["tokens"][1:]})


def test_tables_are_told_apart_by_their_names(tmp_path):
    vocabulary = GeneVocabulary.of_medians({"A": 1.5})
    vocabulary.write(tmp_path)
    with pytest.raises(InputError, match=r"has 0 files '\*other\*'"):
        GeneVocabulary.read(tmp_path, medians="*other*")
    (tmp_path / "mouse_gene_median.tsv").write_text("A\t2.5\n")
    with pytest.raises(InputError, match=r"has 2 files.*name it \(gene_median.tsv.gz, mouse_gene_median.tsv\)"):
        GeneVocabulary.read(tmp_path)
    assert GeneVocabulary.read(tmp_path, medians="mouse*").medians == {"A": 2.5}
    (tmp_path / "mouse_gene_median.tsv").write_text("A\tmuch\n")
    with pytest.raises(InputError, match="something else than a number"):
        GeneVocabulary.read(tmp_path, medians="mouse*")


@pytest.mark.parametrize(
    ("tokens", "medians", "message"),
    [
        ({"<pad>": 0, "A": 2}, {}, "no token '<mask>'"),
        ({"<pad>": 0, "<mask>": 1, "A": 1}, {}, "different numbers"),
        ({"<pad>": 0, "<mask>": 1, "A": -1}, {}, "none of them negative"),
        (TOKENS, {"B": 1.0}, "1 genes have a median and no token, the first 'B'"),
        (TOKENS, {"<pad>": 1.0}, "have a median and no token, the first '<pad>'"),
        (TOKENS, {IDS[0]: 0.0}, "The median of 'ENSG00000000003' is 0.0"),
        (TOKENS, {IDS[0]: np.nan}, "must be positive"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(tokens, medians, message):
    with pytest.raises(InputError, match=message):
        GeneVocabulary(tokens, medians)


@pytest.mark.real
def test_the_shipped_tables_are_read(data_dir, tmp_path):
    vocabulary = GeneVocabulary.read(data_dir / "gene_vocab")
    assert (len(vocabulary.genes), len(vocabulary.medians), vocabulary.cls) == (25424, 25424, 25426)
    assert vocabulary.num_tokens == 25427
    medians = np.array(list(vocabulary.medians.values()))
    np.testing.assert_allclose([medians.min(), np.median(medians), medians.max()], [0.0947, 2.73, 634], rtol=5e-3)
    assert (
        vocabulary.find(["MBP", "ENSG00000197971", "ENSG00000197971.16", "Mbp"]).tolist()
        == [vocabulary.tokens["ENSG00000197971"]] * 4
    )
    vocabulary.write(tmp_path)
    assert GeneVocabulary.read(tmp_path) == vocabulary
    assert GeneVocabulary.load_state(vocabulary.state()) == vocabulary
