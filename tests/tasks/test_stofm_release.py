import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

import stgraph
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
from stgraph.models.pair_scope import CompletePairs
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.stofm_release import SToFMRelease, load_stofm_release, save_stofm_release
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.partition.tiles import SquareTiles
from stgraph.preprocess.gene_tables import write_table
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.tasks.rank_cells import RankCells
from stgraph.tasks.stofm_release import load_released, save_released

WIDTH = 12


@pytest.fixture(autouse=True)
def _no_umap(monkeypatch):
    """UMAP, which weighs the edges that virtual cells are found on, takes half a minute to compile."""

    def graph(_, plane):
        near = kneighbors_graph(plane, 9)
        return sp.csr_matrix(near.maximum(near.T))

    monkeypatch.setattr(SToFMVirtualCells, "_graph", graph)


def ensembl(number):
    return f"ENSG{number:011d}"


@pytest.fixture(scope="module")
def vocabulary(_two_slices):
    """Of all genes of the slices but five, under ids; symbols are their names."""
    names = [str(name) for name in _two_slices[0].var_names[5:]]
    rng = np.random.default_rng(0)
    medians = {ensembl(i): float(median) for i, median in enumerate(rng.uniform(1, 50, len(names)))}
    return GeneVocabulary.of_medians(medians, {name: ensembl(i) for i, name in enumerate(names)})


@pytest.fixture(scope="module")
def release(vocabulary):
    torch.manual_seed(0)
    size = vocabulary.num_tokens + 3
    cells = RankEncoder(size, WIDTH, 16, num_layers=1, ffn_channels=24, max_positions=40, pooling="class")
    graph = SToFMSE2(WIDTH, 16, num_layers=2, heads=2, ffn_channels=8, num_kernels=5, mask_value=-100.0)
    for network in (cells, graph):
        for parameter in network.parameters():
            if parameter.dim() == 2 and len(parameter) > 1:
                torch.nn.init.normal_(parameter, std=0.6)
    # So that all distances that there are make a difference, which those of new networks do not.
    torch.nn.init.uniform_(graph.model.gaussian.means.weight, 0, 100)
    torch.nn.init.constant_(graph.model.gaussian.stds.weight, 10)
    torch.nn.init.normal_(graph.model.gaussian.proj[0].weight, std=20)
    return SToFMRelease(cells.eval(), graph.eval())


@pytest.fixture
def folder(release, vocabulary, tmp_path):
    save_stofm_release(release, tmp_path / "ckpt")
    (tmp_path / "ckpt" / "gene_vocab").mkdir()
    vocabulary.write(tmp_path / "ckpt" / "gene_vocab")
    return tmp_path / "ckpt"


@pytest.fixture
def cells(tissue):
    return tissue[:150, 5:].copy()


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_released_settings(folder):
    model = stgraph.from_pretrained(folder)
    assert model.virtual_cells == SToFMVirtualCells(alpha=0.2, resolution=1.0, n_neighbors=10)
    assert model.partitioner == SquareTiles(part_size=1000)
    assert model.model.scope == CompletePairs(neighbors=50, far=100.0, unit="diagonal")
    assert model.encoder.max_length == 40  # 2048, or as many positions as there are
    assert (model.encoder.collisions, model.encoder.ties) == ("keep", "vocabulary")
    assert model.domains is None


def test_the_whole_way_from_counts_to_embeddings(folder, release, vocabulary, cells):
    """By hand: tokens cell by cell, features one by one, all distances of the one part, the network as it is."""
    counts = cells.X.toarray()
    genes = {token: i for i, token in enumerate(vocabulary.find([str(name) for name in cells.var_names]))}
    features = []
    for row in counts:
        value = {t: row[i] / row.sum() * 10_000 / vocabulary.median_of_token[t] for t, i in genes.items() if row[i]}
        tokens = [vocabulary.cls, *sorted(value, key=lambda token: (-value[token], token))][:40]
        with torch.no_grad():
            state = release.cells.bert(torch.tensor(tokens), torch.tensor([0, len(tokens)]))[0]
            projected = release.cells.cell_proj(state)
        features.append((projected / projected.norm()).numpy())
    features = np.stack(features)

    pos = np.asarray(cells.obsm["spatial"], dtype=np.float64)
    low, high = pos.min(axis=0), pos.max(axis=0)
    scaled = (pos - (low + high) / 2) / np.linalg.norm(high - low) * 100
    virtual = SToFMVirtualCells()(features, pos)
    groups = [virtual.membership == v for v in range(len(virtual))]
    num_virtual = len(groups)
    # Nodes in the order of the authors' code: class token, virtual cells, cells.
    x = np.concatenate([np.zeros((1, WIDTH)), [features[g].mean(axis=0) for g in groups], features])
    place = np.concatenate([np.zeros((1, 2)), [scaled[g].mean(axis=0) for g in groups], scaled])
    distance = cdist(place, place)
    near = distance <= np.sort(distance, axis=1)[:, [49]]
    near |= near.T
    is_cell = np.arange(len(place)) > num_virtual
    distance[is_cell[:, None] & is_cell & ~near] = 100.0
    distance[0], distance[:, 0] = 0.0, 0.0
    types = torch.tensor([1] + [2] * num_virtual + [0] * len(pos))
    kinds = torch.zeros(len(place) ** 2, dtype=torch.long)
    graph = EdgeGraph.complete([len(place)], torch.tensor(distance, dtype=torch.float32).ravel(), kinds)
    with torch.no_grad():
        last, _, _ = release.graph.model(torch.tensor(x, dtype=torch.float32), types, graph)

    embedded = stgraph.embed(cells, folder)
    assert embedded.obsm["X_stgraph"].shape == (150, 16)
    np.testing.assert_allclose(embedded.obsm["X_stgraph"], last[is_cell].numpy(), atol=1e-4)
    assert np.ptp(embedded.obsm["X_stgraph"], axis=0).max() > 0.1
    assert "stgraph_domain" not in embedded.obs


def test_ids_with_versions_and_symbols_are_one(folder, cells, vocabulary):
    expected = stgraph.embed(cells, folder).obsm["X_stgraph"]
    by_id = cells.copy()
    by_id.var_names = [f"{vocabulary.names[name]}.7" for name in cells.var_names]
    np.testing.assert_array_equal(stgraph.embed(by_id, folder).obsm["X_stgraph"], expected)
    column = cells.copy()
    column.var["gene_ids"] = [vocabulary.names[name] for name in cells.var_names]
    column.var_names = [f"g{i}" for i in range(column.n_vars)]
    np.testing.assert_array_equal(stgraph.embed(column, folder).obsm["X_stgraph"], expected)


def test_genes_that_are_not_known_are_said(folder, tissue):
    with pytest.warns(StgraphWarning, match="5 genes of 80 that are not in the vocabulary"):
        stgraph.embed(tissue[:150].copy(), folder)
    tissue.var_names = [f"other{i}" for i in range(tissue.n_vars)]
    with pytest.raises(InputError, match="none of which is in the vocabulary"):
        stgraph.embed(tissue, folder)


def test_mouse_genes_of_one_human_id(folder, cells, vocabulary):
    """The authors' code lets a token occur several times, which is as published; or counts are summed."""
    mouse = cells.copy()
    mouse.var_names = [f"ENSMUSG{i:011d}" for i in range(mouse.n_vars)]
    table = {f"ENSMUSG{i:011d}": ensembl(max(i, 1)) for i in range(mouse.n_vars)}
    write_table(folder / "gene_vocab" / "stofm_mouseid2humanid.tsv.gz", table)
    token = vocabulary.tokens[ensembl(1)]
    for collisions, most in (("keep", 2), ("sum", 1)):
        encoder = load_released(folder, collisions=collisions).encoder
        with pytest.warns(StgraphWarning, match="2 genes that share 1 tokens"):
            found = encoder.tokenize(mouse)
        assert max((found[i] == token).sum() for i in range(len(found))) == most
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_released(folder)
        expected = stgraph.embed(mouse, model).obsm["X_stgraph"]
        save_released(model, folder.parent / "again")
        again = stgraph.embed(mouse, folder.parent / "again").obsm["X_stgraph"]
    np.testing.assert_array_equal(again, expected)


def test_export_is_the_inverse_to_the_bit(folder, tmp_path):
    save_released(stgraph.from_pretrained(folder), tmp_path / "again")
    assert content(folder) == content(tmp_path / "again")


def test_it_becomes_a_model_directory_that_needs_no_other_folder(folder, cells, tmp_path):
    expected = stgraph.embed(cells, folder).obsm["X_stgraph"]
    stgraph.from_pretrained(folder).save_pretrained(tmp_path / "ours", licence="other")
    folder.rename(tmp_path / "gone")
    np.testing.assert_array_equal(stgraph.embed(cells, tmp_path / "ours").obsm["X_stgraph"], expected)
    for name in ("config.json", "README.md"):
        assert str(tmp_path) not in (tmp_path / "ours" / name).read_text()
    assert (tmp_path / "ours" / "genes.txt").read_text().splitlines()[0] == ensembl(0)


@pytest.mark.filterwarnings("ignore:.* 1 genes of 80")
def test_a_model_trained_here_can_be_published(slices, tmp_path):
    settings = {"hidden_channels": 16, "num_layers": 1, "out_channels": WIDTH, "pooling": "class"}
    with pytest.warns(StgraphWarning, match="has no weights"):
        encoder = RankCells(settings=settings).fit(slices)
    model = SToFMSE2(WIDTH, 16, 1, 2, 16, 8, scope=CompletePairs(neighbors=50, unit="diagonal")).eval()
    ours = stgraph.tasks.pretrained.Pretrained(encoder, KNN(), SToFMVirtualCells(), model, partitioner=SquareTiles())
    save_released(ours, tmp_path / "ckpt")
    expected = stgraph.embed(slices[0], ours).obsm["X_stgraph"]
    found = stgraph.embed(slices[0], tmp_path / "ckpt").obsm["X_stgraph"]
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the table of distances, which is not published


def test_what_the_layout_has_no_place_for_is_said(folder, fitted, tmp_path):
    model = stgraph.from_pretrained(folder)
    model.model.scope = CompletePairs()
    other = replace(model, virtual_cells=None, partitioner=None)
    with pytest.warns(StgraphWarning, match=r"no place for its virtual cells, its parts, its pairs \(scope\), so that"):
        save_released(other, tmp_path / "out")
    with pytest.raises(InputError, match="not of LogPCA and SE2Transformer: keep it by save_pretrained"):
        save_released(fitted.pretrained, tmp_path / "other")
    with pytest.raises(InputError, match="gives 12 features of a cell, but the SE"):
        save_released(replace(model, model=SToFMSE2(7, 16, 1, 2, 16, 8)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


# what goes wrong --------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"embedding_dim": 99}))
    (folder / "cell_encoder" / "cell_proj.bin").write_bytes(b"no")
    next((folder / "gene_vocab").glob("*median*")).unlink()
    with pytest.raises(CheckpointError) as caught:
        stgraph.from_pretrained(folder)
    for said in ("embedding_dim 99", "cell_proj.bin' cannot be read", r"0 files '\*gene_median\*"):
        assert re.search(said, str(caught.value))


def test_weights_without_genes(folder, tmp_path):
    (folder / "gene_vocab").rename(tmp_path / "tables")
    with pytest.raises(CheckpointError, match="are published without their genes: put Geneformer's tables"):
        stgraph.from_pretrained(folder)
    assert load_released(folder, vocabulary=tmp_path / "tables").encoder.genes[0] == ensembl(0)


def test_genes_of_another_model(folder):
    larger = GeneVocabulary.of_medians({ensembl(i): 1.0 for i in range(200)})
    larger.write(folder / "gene_vocab")
    with pytest.raises(CheckpointError, match=r"does not fit the cell encoder .* it was trained with another"):
        stgraph.from_pretrained(folder)


def test_a_folder_that_lacks_files_of_the_layout(folder):
    (folder / "se2transformer.pth").unlink()
    with pytest.raises(CheckpointError, match=r"lacks se2transformer\.pth of the layout in which SToFM is published"):
        stgraph.from_pretrained(folder)


def test_by_id_on_the_hub(folder, hub, cells):
    hub.publish(folder)
    expected = stgraph.embed(cells, folder).obsm["X_stgraph"]
    np.testing.assert_array_equal(stgraph.embed(cells, "lab/model").obsm["X_stgraph"], expected)


def test_the_loaded_networks_are_those_of_the_files(folder):
    model, release = stgraph.from_pretrained(folder), load_stofm_release(folder)
    own = {**model.encoder.network.state_dict(), **model.model.model.state_dict()}
    for name, tensor in {**release.cells.state_dict(), **release.graph.model.state_dict()}.items():
        if not name.startswith("cls."):
            assert torch.equal(own[name], tensor), name
    assert not model.model.training
    assert not model.encoder.network.training
