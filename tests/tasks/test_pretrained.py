import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import stgraph
from stgraph.data.box import SliceBox
from stgraph.data.parts import part_data
from stgraph.errors import CheckpointError, InputError
from stgraph.models.pair_scope import CompletePairs
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.partition.halo import part_with_halo
from stgraph.partition.spatial import CoordinateBisection
from stgraph.partition.tiles import SquareTiles


@pytest.fixture
def folder(fitted, tmp_path):
    fitted.pretrained.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_gives_the_same_numbers(fitted, folder, tissue):
    again = stgraph.from_pretrained(folder)
    assert again.info["slices"] == ["synthetic_0", "synthetic_1"]
    embedded = stgraph.embed(tissue, again)
    np.testing.assert_array_equal(embedded.obsm["X_stgraph"], fitted.adatas["synthetic_0"].obsm["X_stgraph"])
    assert embedded.obs["stgraph_domain"].tolist() == fitted.adatas["synthetic_0"].obs["stgraph_domain"].tolist()


def test_exactly_these_files_and_nothing_in_them_is_a_pickle(folder):
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "genes.txt",
        "encoder.safetensors",
        "model.safetensors",
        "domains.safetensors",
    }


def test_save_is_save_pretrained(fitted):
    assert type(fitted.pretrained).save is type(fitted.pretrained).save_pretrained


def test_saved_again_it_is_the_same_to_the_bit(folder, tmp_path):
    stgraph.from_pretrained(folder).save(tmp_path / "again" / "model")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "model" / path.name).read_bytes(), path.name


def test_genes_are_listed_for_people(fitted, folder):
    assert (folder / "genes.txt").read_text().splitlines() == fitted.pretrained.encoder.genes
    (folder / "genes.txt").write_text("MBP\n")
    with pytest.raises(CheckpointError, match=r"genes.txt' does not list the genes of encoder.safetensors"):
        stgraph.from_pretrained(folder)
    (folder / "genes.txt").unlink()
    assert stgraph.from_pretrained(folder).encoder.genes == fitted.pretrained.encoder.genes


def test_a_folder_has_no_revision(folder):
    with pytest.raises(InputError, match="is a folder, which has no revision"):
        stgraph.from_pretrained(folder, revision="main")


@pytest.mark.parametrize(
    "edit",
    [
        lambda parts: parts["model"].update(_target_="stgraph.models.nothing.Model"),
        lambda parts: parts["model"].update(depth=3),
        lambda parts: parts.pop("encoder"),
        lambda parts: parts["encoder"].update(n_components=0),
    ],
)
def test_an_edited_config_is_refused(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config["parts"])
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"was its config\.json edited"):
        stgraph.from_pretrained(folder)


def test_weights_of_another_shape_are_listed(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["parts"]["model"]["hidden_channels"] = 32
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"'encode\.weight' has shape \(64, 20\), not \(32, 20\)"):
        stgraph.from_pretrained(folder)


def test_a_model_to_which_a_part_is_all_there_is_is_given_parts_of_its_size(fitted, tissue):
    """In the unit of published weights, which takes the box of the whole slice."""
    pretrained = replace(fitted.pretrained, domains=None)
    graph = pretrained.graph(tissue[:150].copy())
    scope = CompletePairs(unit="diagonal", max_nodes=200)
    torch.manual_seed(0)
    pretrained.model = SToFMSE2(graph.x.shape[1], 16, 1, 2, 16, 8, scope=scope).eval()
    found = pretrained.embed_graph(graph)
    parts = CoordinateBisection(100)(graph)
    assert parts.num_parts == 2
    for number in range(2):
        cells = parts.cells(number)
        part = SliceBox([graph])(part_data(graph, part_with_halo(graph, cells, 0)))
        np.testing.assert_allclose(found[cells], pretrained.model.embed(part).numpy(), atol=1e-6)


def test_parts_are_cut_as_the_model_says(fitted, tissue, tmp_path):
    scope = CompletePairs(unit="diagonal", max_nodes=400)
    graph = fitted.pretrained.graph(tissue[:150].copy())
    torch.manual_seed(0)
    model = SToFMSE2(graph.x.shape[1], 16, 1, 2, 16, 8, scope=scope).eval()
    pretrained = replace(fitted.pretrained, domains=None, model=model, partitioner=SquareTiles(part_size=40))
    found = pretrained.embed_graph(graph)
    parts = SquareTiles(part_size=40)(graph)
    assert parts.num_parts > 3
    for number in range(parts.num_parts):
        cells = parts.cells(number)
        part = SliceBox([graph])(part_data(graph, part_with_halo(graph, cells, 0)))
        np.testing.assert_allclose(found[cells], model.embed(part).numpy(), atol=1e-6)
    pretrained.save(tmp_path / "tiles")
    again = stgraph.from_pretrained(tmp_path / "tiles")
    assert again.partitioner == SquareTiles(part_size=40)
    np.testing.assert_array_equal(again.embed_graph(graph), found)
