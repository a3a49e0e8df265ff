from stgraph.preprocess.gene_names import GeneNames, without_version


def test_names_are_found_as_they_are_then_without_version_then_ignoring_case():
    names = GeneNames({"ENSG00000000003": 4, "TSPAN6": 4, "ENSG00000000003.2": 1, "ab": 2, "AB": 3})
    numbers, by_case = names.find(["ENSG00000000003.9", "ENSG00000000003.2", "tspan6", "ab", "Ab", "ensg00000000003.7"])
    assert numbers.tolist() == [4, 1, 4, 2, -1, 4]
    assert by_case.tolist() == [False, False, True, False, False, True]


def test_nothing_is_found_among_nothing():
    numbers, by_case = GeneNames({}).find(["A"])
    assert (numbers.tolist(), by_case.tolist()) == ([-1], [False])
    assert len(GeneNames({"A": 0}).find([])[0]) == 0


def test_only_versions_of_ensembl_ids_are_cut():
    names = ["ENSMUSG00000029580.15", "AC000123.1", "ENSA.1", "ENSG00000000003", "ENSG00000000003.1.2"]
    assert [without_version(name) for name in names] == ["ENSMUSG00000029580", *names[1:]]
