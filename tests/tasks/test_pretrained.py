import json

import numpy as np
import pytest

import stgraph
from stgraph.errors import CheckpointError


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


def test_nothing_in_it_is_a_pickle(folder):
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


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
