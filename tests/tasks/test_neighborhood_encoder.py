import functools
import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml
from anndata import AnnData

import stgraph
from stgraph._config import config_dir, instantiate, to_config
from stgraph.data.depth_values import CellDepth
from stgraph.errors import CheckpointError, InputError, StgraphWarning, TrainingError, TrustError
from stgraph.graph.builders import Radius
from stgraph.graph.neighbor_choice import GraphNeighbors, NearestCells, RandomCells
from stgraph.io.read import canonicalize
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.aido_tissue_release import save_aido_tissue
from stgraph.objectives.masked_columns import MaskedColumns
from stgraph.preprocess.gene_list import GeneList
from stgraph.tasks.center_batches import NearbyCenters, RandomCenters
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.training.loop import Trainer
from stgraph.training.untrained import Untrained

TINY = {
    "_target_": "stgraph.models.aido_tissue.AIDOTissue",
    "hidden_channels": 16,
    "num_layers": 1,
    "ffn_channels": 16,
    "num_bins": 8,
    "decoder_channels": 16,
    "decoder_layers": 1,
    "decoder_ffn_channels": 16,
    "decoder_zeros": 8,
}
GRAPH = {
    "_target_": "stgraph.models.cell_graph_genes.CellGraphGenes",
    "hidden_channels": 16,
    "num_cell_layers": 1,
    "num_context_layers": 1,
    "ffn_channels": 16,
    "num_summaries": 2,
    "num_bins": 8,
    "decoder_layers": 1,
}


def tissue(n_cells=60, n_genes=20, seed=0, name="a", counts=None):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.5, (n_cells, n_genes)).astype(np.int32) if counts is None else counts
    adata = AnnData(sp.csr_matrix(counts), obsm={"spatial": rng.uniform(0, 200, (len(counts), 2))})
    adata.var_names = [f"GENE{i}" for i in range(counts.shape[1])]
    adata.obs_names = [f"{name}_{i}" for i in range(len(counts))]
    return canonicalize(adata, name=name, um_per_unit=1.0)


def encoder(**settings):
    given = {"model": TINY, "neighbors": NearestCells(3), "trainer": Untrained(), "max_cells": 16} | settings
    return NeighborhoodEncoder(**given)


@functools.cache
def drawn():
    return encoder().fit([tissue()])


def test_embeddings_of_cells_depend_on_their_neighbourhood_and_on_nothing_else():
    """Those of a crop are the same where the crop holds all neighbours, and another gene far away changes nothing."""
    adata = tissue()
    whole = drawn().transform(adata)
    assert whole.shape == (60, 16)
    assert whole.dtype == np.float32
    kept = np.flatnonzero(adata.obsm["spatial"][:, 0] < 120)
    around = NearestCells(3)(adata.obsm["spatial"], None)[1].index
    inner = [row for row, cell in enumerate(kept) if np.isin(around[cell], kept).all()]
    crop = drawn().transform(adata[kept].copy())
    np.testing.assert_allclose(crop[inner], whole[kept[inner]], rtol=1e-4, atol=1e-5)

    changed, counts = adata.copy(), adata.X.toarray()
    counts[7] = np.arange(20)
    changed.X = sp.csr_matrix(counts)
    touched = (around == 7).any(axis=1)
    now = drawn().transform(changed)
    np.testing.assert_allclose(now[~touched], whole[~touched], rtol=1e-4, atol=1e-5)
    assert (np.abs(now[touched] - whole[touched]).max(axis=1) > 1e-4).all()


def test_order_of_cells_and_genes_and_the_budget_change_nothing():
    adata, rng = tissue(), np.random.default_rng(1)
    cells, genes = rng.permutation(60), rng.permutation(20)
    whole = drawn().transform(adata)
    moved = drawn().transform(adata[cells][:, genes].copy())
    np.testing.assert_allclose(moved, whole[cells], rtol=1e-4, atol=1e-5)
    small = encoder(max_tokens=1, max_cells=1).fit([adata]).transform(adata)
    np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("neighbors", [GraphNeighbors(Radius(30.0), 3), RandomCells(3)])
def test_other_neighbours_are_other_embeddings(neighbors):
    other = encoder(neighbors=neighbors).fit([tissue()]).transform(tissue())
    assert np.isfinite(other).all()
    assert np.abs(other - drawn().transform(tissue())).max() > 1e-3


def test_labels_are_never_looked_at():
    adata = tissue()
    adata.obs["domain"] = "x"
    adata.obs["cell_type"] = np.arange(60).astype(str)
    settings = {"trainer": Trainer(max_steps=3, warmup_steps=1)}
    np.testing.assert_array_equal(
        encoder(**settings).fit([adata]).transform(adata), encoder(**settings).fit([tissue()]).transform(tissue())
    )


def test_seeds_decide():
    def fitted(seed, trainer_seed=0):
        trainer = Trainer(max_steps=2, warmup_steps=1, random_state=trainer_seed)
        return encoder(trainer=trainer, random_state=seed).fit([tissue()]).transform(tissue())

    np.testing.assert_array_equal(fitted(0), fitted(0))
    assert np.abs(fitted(0) - fitted(1)).max() > 1e-4
    assert np.abs(fitted(0) - fitted(0, 1)).max() > 1e-6


def modules(n_cells=240, seed=0):
    """Cells of two kinds, genes of two modules: a cell has much of its own module, and little of the other."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n_cells)
    rate = np.where(np.arange(12) % 2 == kind[:, None], 9.0, 0.5)
    return tissue(counts=rng.poisson(rate).astype(np.int32), seed=seed)


def test_training_learns_what_goes_with_what():
    """The loss falls below what the mean of each gene explains: hidden genes are told from those of their module."""
    trained = encoder(
        model={**TINY, "hidden_channels": 32, "decoder_channels": 32},
        trainer=Trainer(max_steps=60, lr=5e-3, warmup_steps=5),
        depth=CellDepth(target=40.0),
        objectives=[MaskedColumns(0.3, 0.3)],
        max_cells=24,
    ).fit([modules()])
    counts = modules().X.toarray()
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 40)
    losses = [record["masked_columns"] for record in trained.history]
    assert len(losses) == 60
    assert np.mean(losses[-20:]) < 0.85 * values.var(axis=0).mean()


@pytest.mark.parametrize("batching", [RandomCenters(), NearbyCenters(2)])
def test_a_step_has_the_same_centres_for_every_number_of_neighbours(batching):
    """Without a budget of tokens, so that a sweep over k varies nothing else; with one, a warning says so."""

    def sizes(k, **settings):
        reader = encoder(neighbors=NearestCells(k), batching=batching, **settings).load_state(drawn().state())
        return [len(batch) for batch in reader.batches([tissue(200)]).sampler]

    assert sizes(2) == sizes(8) == sizes(40)
    assert max(sizes(40)) == 16
    lengths = encoder(neighbors=NearestCells(8)).load_state(drawn().state()).sequences([tissue(200)]).lengths
    with pytest.warns(
        StgraphWarning, match=r"A step has some \d centres rather than max_cells=16, for max_tokens ends"
    ):
        assert max(sizes(8, max_tokens=int(2 * lengths.max()))) < 16


def test_a_fit_that_fails_leaves_the_encoder_as_it_was():
    fresh = encoder()
    with pytest.raises(InputError, match="has 3 cells"):
        fresh.fit([tissue(3)])
    with pytest.raises(InputError, match="was not fitted"):
        fresh.transform(tissue())

    class Fails(Trainer):
        def fit(self, *_, **__):
            raise TrainingError("the loss is nan")

    again = encoder(trainer=Trainer(max_steps=1)).fit([tissue()])
    before, state = again.history, again.state()
    again.trainer = Fails()
    with pytest.raises(TrainingError):
        again.fit([tissue(n_genes=12)])
    assert again.history is before
    assert len(again.genes) == 20
    assert all(np.array_equal(array, again.state()[name]) for name, array in state.items())


def test_fit_says_once_what_became_of_the_genes_of_each_slice(caplog):
    caplog.set_level(logging.INFO, "stgraph")
    fewer = tissue(seed=1, name="b")[:, :15].copy()
    encoder().fit([tissue(), fewer])
    assert [record.message for record in caplog.records] == [
        "a: 20 of its 20 genes are in the list; 0 of 20 genes of the list are not measured.",
        "b: 15 of its 15 genes are in the list; 5 of 20 genes of the list are not measured.",
    ]


def test_without_a_trainer_fit_makes_no_batches(monkeypatch):
    """The stage that trains it makes them, and says what is to be said."""
    monkeypatch.setattr(NeighborhoodEncoder, "_batches", lambda *_: pytest.fail("batches were made"))
    with pytest.warns(StgraphWarning, match="as it was drawn") as told:
        encoder(trainer=None).fit([tissue()])
    assert len(told) == 1


def test_the_default_network_is_the_small_one_of_the_configs():
    path = config_dir() / "neighborhood_network" / "aido_tissue_small.yaml"
    default, small = (
        to_config(instantiate({**model, "num_genes": 5}))
        for model in (NeighborhoodEncoder().model, yaml.safe_load(path.read_text()))
    )
    assert default == small


def test_a_graph_network_with_shared_columns_and_nearby_centres():
    trained = encoder(
        model=GRAPH,
        objectives=[MaskedColumns(shared=True)],
        batching=NearbyCenters(2),
        trainer=Trainer(max_steps=4, warmup_steps=1),
    ).fit([tissue(), tissue(seed=1, name="b")])
    assert np.isfinite([record["loss"] for record in trained.history]).all()
    assert trained.transform(tissue(seed=2)).shape == (60, 16)


def test_saved_and_loaded_it_gives_the_same():
    trained = encoder(trainer=Trainer(max_steps=2, warmup_steps=1)).fit([tissue()])
    other = instantiate(to_config(trained)).load_state(trained.state())
    np.testing.assert_array_equal(other.transform(tissue(seed=3)), trained.transform(tissue(seed=3)))
    assert other.genes == trained.genes
    state = trained.state()
    trained.network.position_embedding.weight.data += 1
    assert not np.array_equal(
        state["network.position_embedding.weight"], trained.state()["network.position_embedding.weight"]
    )


def test_a_state_that_does_not_fit():
    state = drawn().state()
    with pytest.raises(CheckpointError, match="position_embedding"):
        encoder().load_state({name: array for name, array in state.items() if "position_embedding" not in name})
    with pytest.raises(InputError, match="config"):
        encoder().load_state({name: array for name, array in state.items() if name != "config"})
    with pytest.raises(InputError, match="does not say how its network is built"):
        encoder().load_state(state | {"config": np.frombuffer(b"{nonsense", dtype=np.uint8)})


def test_a_network_of_ones_own_within_another_is_loaded_by_who_trusts_it(tmp_path, monkeypatch):
    (tmp_path / "mylab_inner_net.py").write_text(
        "from stgraph.models.aido_tissue import AIDOTissue\n\n\nclass Mine(AIDOTissue):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {**TINY, "_target_": "mylab_inner_net.Mine"}
    fitted = encoder(model={"_target_": "stgraph.models.center_teller.CenterTeller", "network": own}).fit([tissue()])
    config = to_config(fitted)
    loaded = instantiate(config, trusted=["stgraph", "mylab_inner_net"]).load_state(fitted.state())
    np.testing.assert_array_equal(loaded.transform(tissue()), fitted.transform(tissue()))
    with pytest.raises(TrustError, match="mylab_inner_net"):
        instantiate(config, trusted=["stgraph"])
    with pytest.raises(TrustError, match="mylab_inner_net"):  # what its own config does not name is not run
        encoder().load_state(fitted.state())


def test_a_state_does_not_run_the_code_of_strangers():
    config = b'{"_target_": "http.server.HTTPServer", "num_genes": 20}'
    with pytest.raises(TrustError, match="http"):
        encoder().load_state(drawn().state() | {"config": np.frombuffer(config, dtype=np.uint8)})


def test_published_weights(tmp_path):
    names = [f"GENE{i}" for i in range(20)]
    GeneList(names).write(tmp_path / "genes.tsv.gz")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AIDOTissue(20, hidden_channels=16, num_layers=1, ffn_channels=16, num_bins=8).eval()
    save_aido_tissue(network, tmp_path / "weights")
    given = {"gene_list": str(tmp_path / "genes.tsv.gz"), "weights": str(tmp_path / "weights"), "trainer": None}
    fitted = encoder(**given).fit([tissue()])  # no warning: it was trained, elsewhere
    assert torch.equal(fitted.network.position_embedding.weight, network.position_embedding.weight)
    assert fitted.network.decoder_zeros == 8
    again = encoder(**given).load_state(fitted.state())
    np.testing.assert_array_equal(again.transform(tissue()), fitted.transform(tissue()))
    GeneList(names[:-1]).write(tmp_path / "short.tsv.gz")
    with pytest.raises(InputError, match="numbers 20 genes, but the gene list has 19"):
        encoder(**{**given, "gene_list": str(tmp_path / "short.tsv.gz")}).fit([tissue()])


def test_a_network_without_training_says_so():
    with pytest.warns(StgraphWarning, match="its network is as it was drawn"):
        encoder(trainer=None).fit([tissue()])


def test_values_that_are_no_counts_are_refused():
    adata = tissue()
    adata.X = adata.X.astype(np.float32).log1p()
    for use in (encoder().fit, lambda slices: drawn().transform(slices[0])):
        with pytest.raises(InputError, match="raw counts"):
            use([adata])


def test_a_slice_of_too_few_cells_says_what_to_do():
    with pytest.raises(InputError, match=r"^\S.*: A slice has 3 cells, and 3 neighbours of each need 4 at least"):
        encoder().fit([tissue(), tissue(3, name="b")])
    with pytest.raises(InputError, match=r"^\S.*: A slice has 3 cells, and 3 neighbours of each need 4 at least"):
        drawn().transform(tissue(3))


def test_unknown_genes_beyond_a_threshold():
    other = tissue()
    other.var_names = [f"GENE{i}" if i < 8 else f"OTHER{i}" for i in range(20)]
    with pytest.raises(InputError, match="OTHER"):
        drawn().transform(other)
    with pytest.warns(StgraphWarning, match="OTHER"):
        lenient = encoder(max_unknown=0.9).load_state(drawn().state()).transform(other)
    assert lenient.shape == (60, 16)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_cells": 0}, "max_cells"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_unknown": 1.5}, "max_unknown from 0 to 1"),
        ({"model": {"hidden_channels": 8}}, "with _target_ and without num_genes"),
        ({"model": {**TINY, "num_genes": 8}}, "with _target_ and without num_genes"),
        ({"trainer": Trainer(), "objectives": []}, "a trainer and no objectives"),
        ({"weights": "w"}, "weights without the gene_list"),
        ({"ensembl_ids": "w"}, "ensembl_ids without the gene_list"),
        ({"weights": "w", "gene_list": "g", "model": GRAPH}, "Published weights are of"),
    ],
)
def test_bad_arguments(settings, said):
    with pytest.raises(InputError, match=said):
        encoder(**settings)


def test_bad_calls():
    with pytest.raises(InputError, match="needs slices"):
        encoder().fit([])
    with pytest.raises(InputError, match="was not fitted"):
        encoder().transform(tissue())
    with pytest.raises(InputError, match="is no NeighborhoodNetwork"):
        encoder(model={"_target_": "torch.nn.Linear", "in_features": 2}).fit([tissue()])


def test_the_facade_of_tissue_reads_it():
    """As an encoder of cells of any other run: `stgraph.fit` puts a graph model on its features."""
    slices = stgraph.synthetic_tissue(n_cells=100, n_genes=50)
    trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2}
    result = stgraph.fit(slices, encoder=encoder(), trainer=trainer, domains=None, progress=False)
    assert result.adatas["synthetic_0"].obsm["X_stgraph"].shape == (100, 64)
