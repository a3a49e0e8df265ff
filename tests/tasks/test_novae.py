"""Novae as an encoder. Most tests run its wiring on a stand-in with the functions that are used."""

import logging
import re
import sys
import types
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.graph.spacing import median_spacing
from stgraph.tasks.novae import NovaeEncoder
from stgraph.tasks.novae_input import is_array, novae_input

HEXAGONS = np.array([[x + y / 2, y * np.sqrt(3) / 2] for x in range(12) for y in range(12)])


class FakeModel:
    """Projects the genes it knows at random, and chatters."""

    made: ClassVar[list["FakeModel"]] = []

    def __init__(self, adatas=None, *, var_names, embedding_size=100, batch_size=256):
        self.adatas, self.embedding_size, self.batch_size = adatas, embedding_size, batch_size
        self.cell_embedder = types.SimpleNamespace(gene_names=list(var_names))
        self.weight = np.random.normal(size=(len(var_names), 4)) + torch.rand(1).item()  # noqa: NPY002 - as Novae
        self.fitted_with = None
        FakeModel.made.append(self)

    def fit(self, **kwargs):
        sys.stdout.write("on stdout")
        sys.stderr.write("on stderr")
        logging.getLogger("novae.model").info("a note")
        logging.getLogger("lightning.pytorch.trainer").warning("buy a faster computer")
        logging.getLogger("novae.utils").warning("Your coordinates are not in microns")
        logging.getLogger("novae.utils").warning("the tissue\n is odd")
        warnings.warn("few workers", UserWarning, stacklevel=1)
        self.fitted_with = kwargs

    def compute_representations(self, adata, accelerator):
        assert accelerator == "cpu"
        used = adata.var_names[adata.var.get("highly_variable", np.ones(adata.n_vars, dtype=bool))].str.lower()
        known = [gene for gene in used if gene in self.cell_embedder.gene_names]
        assert len(known) >= 20, f"Too few genes ({len(known)}) are known."
        adata.uns["used"] = known
        column = {name: i for i, name in enumerate(adata.var_names.str.lower())}
        x = adata.X.toarray()[:, [column[gene] for gene in known]]
        adata.obsm["novae_latent"] = x @ self.weight[[self.cell_embedder.gene_names.index(gene) for gene in known]]
        adata.obs["neighborhood_valid"] = np.diff(adata.obsp["spatial_distances"].indptr) > 0
        adata.obsm["novae_latent"][~adata.obs["neighborhood_valid"]] = 0

    def save_pretrained(self, folder):
        np.savez(Path(folder) / "model.npz", weight=self.weight, genes=self.cell_embedder.gene_names)

    @classmethod
    def from_pretrained(cls, folder):
        with np.load(Path(folder) / "model.npz") as saved:
            model = cls(var_names=saved["genes"].tolist())
            model.weight = saved["weight"]
        return model


@pytest.fixture
def novae(monkeypatch):
    """A stand-in for the package; what it was given is in ``novae.seen`` and ``FakeModel.made``."""

    def spatial_neighbors(made, **kwargs):
        fake.seen.append((made, kwargs))
        made.obsp["spatial_distances"] = KNN(3, symmetric=False)(made.obsm["spatial"])

    def prepare_adatas(adatas):
        # The first two thirds of the genes of a slice vary, says it, in no particular order.
        return adatas, {gene.lower() for one in adatas for gene in one.var_names[: 2 * one.n_vars // 3]}

    fake = types.ModuleType("novae")
    fake.seen, fake.spatial_neighbors, fake.Novae = [], spatial_neighbors, FakeModel
    fake.utils = types.SimpleNamespace(prepare_adatas=prepare_adatas)
    monkeypatch.setitem(sys.modules, "novae", fake)
    monkeypatch.setattr(FakeModel, "made", [])
    return fake


def fit(slices, **kwargs):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Novae warns: the tissue is odd", StgraphWarning)
        return NovaeEncoder(weights=None, **kwargs).fit(slices)


def offline(monkeypatch, error):
    hub = types.ModuleType("huggingface_hub")

    def snapshot_download(name, allow_patterns):
        raise error

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def on_array(tissue, unit="um"):
    tissue = tissue[: len(HEXAGONS)].copy()
    tissue.obsm["spatial"] = HEXAGONS * 137.0
    tissue.uns["stgraph"]["unit"] = unit
    return tissue


class TestInput:
    def test_an_array_is_told_from_cells(self, tissue):
        jitter = np.random.default_rng(0).normal(scale=0.02, size=HEXAGONS.shape)
        assert is_array(HEXAGONS * 137)
        assert is_array(HEXAGONS + jitter)
        assert is_array(np.round(HEXAGONS)[:, ::-1] @ np.array([[0.0, 1.0], [1.0, 0.0]]))
        assert not is_array(tissue.obsm["spatial"])

    def test_counts_become_logs_at_the_median_depth(self, tissue):
        made = novae_input(tissue, array=False)
        depth = np.asarray(tissue.X.sum(axis=1)).ravel()
        expected = np.log1p(tissue.X.toarray() * (np.median(depth) / depth)[:, None])
        np.testing.assert_allclose(made.X.toarray(), expected, rtol=1e-5)
        np.testing.assert_array_equal(made.obsm["spatial"], tissue.obsm["spatial"])

    def test_small_counts_and_empty_cells_are_no_exception(self, tissue):
        tissue.X = sp.csr_matrix((tissue.X.toarray() > 0) * (np.arange(tissue.n_obs) > 0)[:, None], dtype=np.int32)
        made = novae_input(tissue, array=False)
        assert made.X[0].nnz == 0
        assert not np.isin(made.X.data, [0.0, 1.0]).all()

    def test_no_label_comes_along_and_nothing_is_changed(self, tissue):
        assert len(tissue.obs.columns)
        before = tissue.copy()
        made = novae_input(tissue, array=False)
        made.X.data[:] = 0
        made.obsm["spatial"][:] = 0
        assert (list(made.obs), list(made.obsm), list(made.uns)) == ([], ["spatial"], ["log1p"])
        assert (tissue.X != before.X).nnz == 0
        np.testing.assert_array_equal(tissue.obsm["spatial"], before.obsm["spatial"])

    @pytest.mark.parametrize(("array", "spacing"), [(True, 100.0), (False, 10.0)])
    def test_an_unknown_unit_is_scaled_and_said(self, tissue, array, spacing):
        tissue.uns["stgraph"]["unit"] = "unknown"
        tissue.obsm["spatial"] = tissue.obsm["spatial"] * 7.5
        with pytest.warns(StgraphWarning, match=f"synthetic_0: Novae needs microns.* lie {spacing:g} microns apart"):
            made = novae_input(tissue, array=array)
        assert median_spacing(made.obsm["spatial"]) == pytest.approx(spacing)

    def test_symbols_are_used_only_where_asked_for(self, tissue):
        symbols = [f"S{i}" for i in range(tissue.n_vars)]
        symbols[3], symbols[5] = "", "s4"  # none, and one that Novae cannot tell from another
        tissue.var["gene_symbol"] = symbols
        assert list(novae_input(tissue, array=False).var_names) == list(tissue.var_names)
        made = novae_input(tissue, array=False, symbols=True)
        assert list(made.var_names) == [s for i, s in enumerate(symbols) if i not in (3, 5)]

    def test_without_symbols_names_stay(self, tissue):
        assert list(novae_input(tissue, array=False, symbols=True).var_names) == list(tissue.var_names)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"max_epochs": 0}, "max_epochs of at least 1"),
        ({"min_steps": -1}, "min_steps of at least 0"),
        ({"batch_size": 1}, "batch_size of at least 2"),
        ({"radius": 0.0}, "a positive radius in microns"),
        ({"random_state": 0.5}, "a whole number as random_state"),
    ],
)
def test_bad_arguments_are_named(argument, message):
    with pytest.raises(InputError, match=f"NovaeEncoder needs {message}"):
        NovaeEncoder(**argument)


def test_without_the_package_the_extra_is_named(tissue, monkeypatch):
    monkeypatch.setitem(sys.modules, "novae", None)
    with pytest.raises(InputError, match=r"'novae', which cannot be imported .*pip install 'stgraph\[novae\]'"):
        NovaeEncoder(weights=None).fit([tissue])


def test_a_config_brings_it_back():
    encoder = NovaeEncoder(weights=None, max_epochs=3, array=True)
    assert instantiate(to_config(encoder)) == encoder


class TestFromScratch:
    def test_describes_slices_seen_or_not(self, slices, novae):
        encoder = fit(slices[:1])
        assert encoder.origin == "scratch"
        for adata in slices:
            z = encoder.transform(adata)
            assert (z.shape, z.dtype) == ((adata.n_obs, 4), np.float32)
            assert z.any(axis=1).all()

    def test_reads_the_genes_it_learnt_in_the_order_of_their_names(self, slices, novae):
        encoder = fit(slices)
        learnt = sorted(gene.lower() for gene in slices[0].var_names[: 2 * slices[0].n_vars // 3])
        assert FakeModel.made[0].cell_embedder.gene_names == learnt
        assert len(learnt) < slices[0].n_vars
        encoder.transform(slices[1][:, ::-1].copy())
        assert sorted(novae.seen[-1][0].uns["used"]) == learnt

    def test_the_same_seed_gives_the_same(self, slices, novae):
        first, again, other = (fit(slices, random_state=s).transform(slices[0]) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.allclose(first, other)

    def test_global_generators_are_left_alone(self, slices, novae):
        legacy, ours = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - what Novae draws from
        fit(slices, random_state=7).transform(slices[0])
        np.testing.assert_equal(np.random.get_state(), legacy)  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), ours)

    def test_cells_get_delaunay_edges_and_arrays_six_neighbours(self, tissue, novae):
        array = on_array(tissue)
        grid = {"coord_type": "grid", "delaunay": False, "n_neighs": 6}
        fit([tissue, array], radius=55.0)
        assert [kwargs for _, kwargs in novae.seen] == [{"radius": 55.0}, grid]
        fit([tissue, array], array=True)
        fit([tissue, array], array=False)
        assert [kwargs for _, kwargs in novae.seen[2:]] == [grid, grid, {"radius": 80.0}, {"radius": 80.0}]

    @pytest.mark.parametrize(
        ("arguments", "batch", "epochs", "patience"),
        [
            # 320 cells, so one step of 160 twice an epoch; 250 steps are 125 epochs, 140 the next multiple of 20
            ({}, 160, 140, 28),
            ({"min_steps": 0}, 160, 20, 4),
            ({"batch_size": 32}, 32, 40, 8),  # ten steps an epoch
            ({"batch_size": 32, "max_epochs": 25}, 32, 25, 4),
        ],
    )
    def test_small_slices_are_given_more_epochs(self, tissue, novae, arguments, batch, epochs, patience):
        fit([tissue], **arguments)
        model = FakeModel.made[0]
        assert (model.batch_size, model.fitted_with["max_epochs"], model.fitted_with["patience"]) == (
            batch,
            epochs,
            patience,
        )

    def test_a_small_panel_has_small_embeddings(self, tissue, novae):
        fit([tissue])
        assert FakeModel.made[0].embedding_size == 2 * tissue.n_vars // 3 - 1
        fit([tissue[:40].copy()])
        assert FakeModel.made[-2].embedding_size == 40

    def test_holds_on_to_no_slice(self, slices, novae):
        assert fit(slices)._model.adatas is None

    def test_is_silent_but_for_what_novae_warns_of(self, tissue, novae, capfd):
        logger = logging.getLogger("novae")
        logger.addHandler(handler := logging.StreamHandler(sys.stderr))
        try:
            with pytest.warns(StgraphWarning) as said:
                NovaeEncoder(weights=None).fit([tissue])
            assert logger.handlers == [handler]
        finally:
            logger.removeHandler(handler)
        assert [str(w.message) for w in said] == ["synthetic_0: Novae warns: the tissue is odd"]
        assert tuple(capfd.readouterr()) == ("", "")

    def test_what_novae_refuses_is_said_in_a_sentence(self, tissue, novae):
        encoder = fit([tissue])
        with pytest.raises(InputError, match=r"synthetic_0: Novae refuses it: Too few genes \(10\) are known"):
            encoder.transform(tissue[:, :10].copy())

    def test_cells_without_neighbours_are_counted(self, tissue, novae, monkeypatch):
        encoder = fit([tissue])
        near = novae.spatial_neighbors

        def lonely(made, **kwargs):
            near(made, **kwargs)
            made.obsp["spatial_distances"] = sp.diags_array((np.arange(320) > 2) * 1.0) @ made.obsp["spatial_distances"]
            made.obsp["spatial_distances"].eliminate_zeros()

        monkeypatch.setattr(novae, "spatial_neighbors", lonely)
        with pytest.warns(StgraphWarning, match="synthetic_0: 3 of 320 cells have no neighbours two steps away"):
            z = encoder.transform(tissue)
        np.testing.assert_array_equal(np.flatnonzero(~z.any(axis=1)), [0, 1, 2])

    def test_must_be_fitted_first(self, tissue):
        with pytest.raises(InputError, match="was not fitted"):
            NovaeEncoder().transform(tissue)


class TestWeights:
    def test_of_a_folder_are_loaded_and_nothing_is_trained(self, slices, novae, tmp_path):
        trained = fit(slices)
        trained._model.save_pretrained(tmp_path)
        FakeModel.made.clear()
        encoder = NovaeEncoder(weights=str(tmp_path)).fit(slices)
        assert encoder.origin == str(tmp_path)
        assert [model.fitted_with for model in FakeModel.made] == [None]
        np.testing.assert_array_equal(encoder.transform(slices[0]), trained.transform(slices[0]))

    def test_read_symbols_and_choose_genes_by_themselves(self, tissue, novae, tmp_path):
        fit([tissue])._model.save_pretrained(tmp_path)
        encoder = NovaeEncoder(weights=str(tmp_path)).fit([])
        tissue.var["gene_symbol"] = tissue.var_names
        tissue.var_names = [f"ENSG{i}" for i in range(tissue.n_vars)]
        encoder.transform(tissue)
        assert "highly_variable" not in novae.seen[-1][0].var
        assert list(novae.seen[-1][0].var_names) == list(tissue.var["gene_symbol"])

    def test_that_cannot_be_had_are_replaced_by_training_and_that_is_said(self, tissue, novae, monkeypatch):
        offline(monkeypatch, ConnectionError("no network"))
        with pytest.warns(StgraphWarning) as said:
            encoder = NovaeEncoder(weights="lab/novae-x-0").fit([tissue])
        assert re.match(".*'lab/novae-x-0' of Novae cannot be had .ConnectionError.*scratch", str(said[0].message))
        assert encoder.origin == "scratch"
        assert encoder.transform(tissue).any()

    def test_of_no_possible_name_are_refused(self, tissue, novae, monkeypatch):
        offline(monkeypatch, ValueError("Repo id must be in the form"))
        with pytest.raises(InputError, match="'my/lost/folder' is neither a folder nor a name on the Hugging Face hub"):
            NovaeEncoder(weights="my/lost/folder").fit([tissue])


@pytest.mark.slow
class TestNovaeItself:
    @pytest.fixture(autouse=True)
    def _installed(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("novae", reason="Novae is not installed: pip install 'stgraph[novae]'")

    def test_from_scratch_and_back_from_a_folder(self, tmp_path, capfd):
        slices = stgraph.synthetic_tissue(n_cells=150, n_genes=60, n_slices=2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Novae warns.*", StgraphWarning)
            first, again = (
                NovaeEncoder(weights=None, max_epochs=1, min_steps=1, batch_size=64).fit(slices[:1]) for _ in range(2)
            )
            z = [first.transform(adata) for adata in slices]
            np.testing.assert_array_equal(z[1], again.transform(slices[1]))
            first._model.save_pretrained(tmp_path)
            loaded = NovaeEncoder(weights=str(tmp_path)).fit([])
            np.testing.assert_array_equal(z[0], loaded.transform(slices[0]))
        assert all((x.shape, x.dtype) == ((150, 64), np.float32) for x in z)
        assert np.isfinite(z).all()
        assert "novae" not in capfd.readouterr().err

    def test_too_few_genes_are_refused(self):
        tissue = stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0][:, :15].copy()
        with pytest.raises(InputError, match="synthetic_0: Novae refuses it: Too few genes"):
            NovaeEncoder(weights=None).fit([tissue])
