import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.preprocess.held_out_genes import detected_genes, held_out_values, without_genes


def test_no_counts_of_a_gene_is_left(tissue):
    tissue.obs["total"] = np.asarray(tissue.X.sum(axis=1)).ravel()
    tissue.layers["raw"] = tissue.X.copy()
    tissue.obsm["X_pca"] = tissue.X[:, :5].toarray()
    held = tissue.var_names[[3, 40]].tolist()
    left = without_genes(tissue, held)
    assert left.var_names.tolist() == [gene for gene in tissue.var_names if gene not in held]
    assert list(left.obsm) == ["spatial"]
    assert not left.layers
    np.testing.assert_array_equal(left[:, "Exc-L23-1"].X.toarray(), tissue[:, "Exc-L23-1"].X.toarray())


def test_values_do_not_change_with_other_held_out_genes(tissue):
    held, seen = tissue.var_names[:6].tolist(), tissue.var_names[6:].tolist()
    before = held_out_values({"a": tissue}, held, seen)["a"]
    counts = tissue.X.toarray()
    counts[:, 1:6] = 500
    tissue.X = sp.csr_matrix(counts)
    np.testing.assert_array_equal(held_out_values({"a": tissue}, held, seen)["a"][:, 0], before[:, 0])


def test_values_are_log_counts_at_one_depth(slices):
    study = dict(zip("ab", slices, strict=True))
    held, seen = slices[0].var_names[:4].tolist(), slices[0].var_names[4:].tolist()
    depth = {name: adata[:, seen].X.toarray().sum(axis=1) for name, adata in study.items()}
    pooled = np.concatenate(list(depth.values()))
    median = np.median(pooled[pooled > 0])
    for name, values in held_out_values(study, held, seen).items():
        scaled = study[name][:, held].X.toarray() * (median / np.maximum(depth[name], 0.02 * median))[:, None]
        np.testing.assert_allclose(values, np.log1p(scaled))


def test_detected_is_asked_of_every_slice(slices):
    counts = slices[1].X.toarray()
    counts[:, 0] = 0
    slices[1].X = sp.csr_matrix(counts)
    genes = slices[0].var_names[:3].tolist()
    assert detected_genes([slices[0]], genes, least_share=0.01) == genes
    assert detected_genes(slices, genes, least_share=0.01) == genes[1:]


def test_bad_genes_are_named(tissue):
    with pytest.raises(InputError, match="seen and held out at once: Exc-L23-1"):
        held_out_values({"a": tissue}, tissue.var_names[:1], tissue.var_names[:5])
    tissue.X = tissue.X * 0
    with pytest.raises(InputError, match="no counts at all"):
        held_out_values({"a": tissue}, tissue.var_names[:1], tissue.var_names[1:])
