from contextlib import nullcontext

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml
from anndata import AnnData
from safetensors.torch import load_file

import stgraph
from stgraph._config import instantiate
from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.io.read import canonicalize
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.aido_tissue_reference import AIDOTissueReference
from stgraph.models.aido_tissue_release import LICENCE, save_aido_tissue
from stgraph.models.center_teller import CenterTeller
from stgraph.preprocess.gene_list import GeneList
from stgraph.tasks.aido_tissue_release import load_released
from stgraph.tasks.hub import is_model_id

GENES = [f"GENE{i}" for i in range(20)]


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = AIDOTissue(20, 16, 1, 2, 24, 5, decoder_channels=16, decoder_ffn_channels=16, licence=LICENCE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def folder(network, tmp_path):
    save_aido_tissue(network, tmp_path / "ckpt")
    GeneList(GENES).write(tmp_path / "ckpt" / "gene_list.tsv.gz")
    return tmp_path / "ckpt"


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(1.5, (50, 20)).astype(np.int32))
    adata = AnnData(counts, obsm={"spatial": rng.uniform(0, 200, (50, 2))})
    adata.var_names = GENES
    return canonicalize(adata, name="a", um_per_unit=1.0)


def licensed():
    return pytest.warns(StgraphWarning, match="come with a licence .*non-commercial")


def test_a_published_folder_is_a_model(folder, network, cells):
    with licensed():
        model = stgraph.from_pretrained(folder)
    assert model.encoder.genes == GENES
    assert model.encoder.depth == CellDepth()
    assert model.encoder.neighbors.n_neighbors == 32
    assert not model.encoder.network.training
    expected = model.encoder.apply(network, cells)
    np.testing.assert_array_equal(stgraph.embed(cells, model).obsm["X_stgraph"], expected)
    assert np.ptp(expected, axis=0).min() > 1e-3


def test_the_licence_stays_with_the_weights(folder, cells, tmp_path):
    with licensed():
        model = stgraph.from_pretrained(folder)
    model.save_pretrained(tmp_path / "ours")
    card = (tmp_path / "ours" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
    assert f"Its weights come with a licence: {LICENCE}." in card
    assert "licence is not known" not in card
    folder.rename(tmp_path / "gone")  # needed no more
    with licensed():
        again = stgraph.from_pretrained(tmp_path / "ours")
    expected = stgraph.embed(cells, model).obsm["X_stgraph"]
    np.testing.assert_array_equal(stgraph.embed(cells, again).obsm["X_stgraph"], expected)
    with pytest.raises(InputError, match=r"The weights carry a licence .* so the model cannot be given 'mit': leave"):
        again.save_pretrained(tmp_path / "other", licence="mit")
    assert not (tmp_path / "other").exists()


def test_a_licence_of_a_network_inside_another(folder, network, tmp_path):
    with licensed():
        model = stgraph.from_pretrained(folder)
    model.encoder.with_network(CenterTeller(20, network), GeneList(GENES))
    model.save_pretrained(tmp_path / "ours", licence="other")
    assert LICENCE in (tmp_path / "ours" / "README.md").read_text()


def test_other_weights_have_another_licence(folder, cells):
    """What is drawn anew by the same encoder is nobody else's."""
    with licensed():
        encoder = stgraph.from_pretrained(folder).encoder
    with pytest.warns(StgraphWarning, match="as it was drawn"):
        assert encoder.fit([cells]).network.licence is None


def test_as_the_released_code_computes_it(folder, cells):
    with licensed():
        model = load_released(folder, reference=True, n_neighbors=8)
    assert type(model.encoder.network) is AIDOTissueReference
    assert model.encoder.depth == BatchDepth()
    with licensed():
        corrected = load_released(folder, n_neighbors=8)
    found, meant = (stgraph.embed(cells, each).obsm["X_stgraph"] for each in (model, corrected))
    assert np.abs(found - meant).max() > 1e-2


@pytest.mark.parametrize("published", [False, True])
def test_the_network_of_the_release_can_be_chosen_by_config(folder, cells, published):
    weights = {"weights": str(folder), "gene_list": str(folder / "gene_list.tsv.gz"), "trainer": None}
    sizes = {"hidden_channels": 16, "num_layers": 1, "heads": 2}
    encoder = instantiate(
        {
            "_target_": "stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder",
            "model": {"_target_": "stgraph.models.aido_tissue_reference.AIDOTissueReference", **sizes},
            "depth": {"_target_": "stgraph.data.depth_values.BatchDepth"},
            "trainer": {"_target_": "stgraph.training.untrained.Untrained"},
        }
        | (weights if published else {})
    )
    with licensed() if published else nullcontext():
        encoder.fit([cells])
    assert type(encoder.network) is AIDOTissueReference
    assert encoder.transform(cells).shape == (50, 16)


def test_sizes_that_are_not_those_of_the_weights_are_refused(folder, cells):
    given = {"weights": str(folder), "gene_list": str(folder / "gene_list.tsv.gz"), "trainer": None}
    model = {"_target_": "stgraph.models.aido_tissue.AIDOTissue", "heads": 2, "num_layers": 7}
    with pytest.raises(InputError, match="have num_layers 1, not 7: leave out"):
        stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder(model=model, **given).fit([cells])
    with licensed():  # the default says nothing
        fitted = stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder(**given).fit([cells])
    assert fitted.network.num_layers == 1


def test_a_checkpoint_of_lightning_with_genes_beside_it(folder, network, cells):
    weights = load_file(folder / "model.safetensors")
    state = {f"backbone.encoder.{name}": tensor for name, tensor in weights.items()}
    constant = {"backbone.encoder.encoder.layer.0.attention.self.rotary_emb.inv_freq": torch.ones(2)}
    head = {"adapter.linear.weight": torch.zeros(6, 16)}
    torch.save({"state_dict": state | constant | head, "epoch": 3}, folder / "last.ckpt")
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
    for path in (folder, folder / "last.ckpt"):
        with licensed(), pytest.warns(StgraphWarning, match=r"head of a task \(adapter.linear.weight\), which is left"):
            model = stgraph.from_pretrained(path)
        expected = model.encoder.apply(network, cells)
        np.testing.assert_array_equal(stgraph.embed(cells, model).obsm["X_stgraph"], expected)


@pytest.mark.filterwarnings("ignore:.*come with a licence")
def test_the_list_of_genes(folder, tmp_path):
    table = tmp_path / "elsewhere.tsv.gz"
    (folder / "gene_list.tsv.gz").rename(table)
    with pytest.raises(CheckpointError, match=r"has no table of genes, .* put scFoundation's .*gene_list=\.\.\.\)"):
        stgraph.from_pretrained(folder)
    assert stgraph.from_pretrained(folder, gene_list=table).encoder.genes == GENES
    rows = ["gene_name\tindex", *(f"{gene}\t{i}" for i, gene in enumerate(GENES))]
    for name in ("OS_scRNA_gene_index.19264.tsv", "scRNA_genename_and_index.tsv"):
        (folder / name).write_text("\n".join(rows) + "\n")
        assert stgraph.from_pretrained(folder).encoder.genes == GENES
        (folder / name).unlink()
    for name in ("gene_list.tsv", "gene_index.tsv"):
        (folder / name).write_text("\n".join(rows) + "\n")
    with pytest.raises(CheckpointError, match=r"has 2 tables of genes, .* one table alone"):
        stgraph.from_pretrained(folder)
    GeneList(GENES[:-1]).write(table)
    with pytest.raises(CheckpointError, match=r"does not fit the weights in .* numbers 20 genes, but the gene"):
        stgraph.from_pretrained(folder, gene_list=table)


def test_other_models_have_genes_of_their_own(fitted, folder, tmp_path):
    fitted.pretrained.save(tmp_path / "ours")
    with pytest.raises(InputError, match="has its own genes: leave gene_list out"):
        stgraph.from_pretrained(tmp_path / "ours", gene_list=folder / "gene_list.tsv.gz")


@pytest.mark.parametrize("name", ["genbio-ai/AIDO.Tissue-3M", "genbio-ai/GB.Tissue-60M"])
def test_both_names_are_ids(name):
    assert is_model_id(name)


@pytest.mark.parametrize("older", [False, True])
def test_by_id_on_the_hub(folder, hub, cells, older):
    """The hub has no list of genes."""
    table = (folder / "gene_list.tsv.gz").rename(folder.parent / "gene_list.tsv.gz")
    if older:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    hub.publish(folder)
    with licensed():
        model = stgraph.from_pretrained("lab/model", gene_list=table)
    assert model.encoder.genes == GENES
