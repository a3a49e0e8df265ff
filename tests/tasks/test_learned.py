import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.baselines.thinned_copies import WithThinnedCopies
from stgraph.errors import CheckpointError, InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.learned import LearnedEncoder, PretrainedEncoder
from stgraph.tasks.readouts import Context, Own
from stgraph.testing.encoders import SliceEncoderContract
from stgraph.training.loop import Trainer

QUICK = {"trainer": {"_target_": "stgraph.training.loop.Trainer", "max_steps": 3}}


def test_it_is_what_fit_trains(slices):
    encoder = LearnedEncoder(QUICK, Context(), random_state=1).fit(slices)
    result = stgraph.fit(slices, **QUICK, domains=None, random_state=1, progress=False)
    for name, adata in zip(("synthetic_0", "synthetic_1"), slices, strict=True):
        np.testing.assert_array_equal(encoder.transform(adata), result.adatas[name].obsm["X_stgraph"])
        assert "stgraph_domain" not in result.adatas[name].obs
    assert encoder.pretrained.domains is None


def test_a_seed_decides(tissue):
    first, again, other = (
        LearnedEncoder(QUICK, random_state=seed).fit([tissue]).transform(tissue) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert first.shape == (tissue.n_obs, 84)
    assert first.dtype == np.float32


def test_labels_are_not_looked_at(tissue):
    bare = tissue.copy()
    del bare.obs["domain"], bare.obs["cell_type"]
    first, second = (LearnedEncoder(QUICK).fit([adata]).transform(bare) for adata in (tissue, bare))
    np.testing.assert_array_equal(first, second)


def test_a_new_slice_is_read_alone(slices):
    encoder = LearnedEncoder(QUICK).fit(slices[:1])
    assert encoder.transform(slices[1]).shape == (slices[1].n_obs, 84)


def test_without_training_the_weights_are_as_drawn(tissue):
    untrained = LearnedEncoder({"trainer": {"_target_": "stgraph.training.untrained.Untrained"}}, Context()).fit(
        [tissue]
    )
    weights = untrained.pretrained.model.state_dict()
    same = LearnedEncoder({"trainer": Trainer(max_steps=1, lr=1e-12)}).fit([tissue]).pretrained.model.state_dict()
    assert max(float((weights[name] - same[name]).abs().max()) for name in weights) < 1e-9
    assert not untrained.pretrained.model.training


def test_parts_given_as_objects_are_not_shared_between_fits(slices):
    """Else the second fit would change what the first encoder says."""
    settings = QUICK | {"encoder": LogPCA(n_components=6)}
    first = LearnedEncoder(settings, Own()).fit(slices[:1])
    before = first.transform(slices[0])
    LearnedEncoder(settings, Own()).fit(slices[1:])
    np.testing.assert_array_equal(first.transform(slices[0]), before)
    assert settings["encoder"].genes == []


def test_a_saved_model(fitted, slices, tmp_path):
    fitted.pretrained.save(tmp_path)
    encoder = PretrainedEncoder(tmp_path, Context()).fit(slices)
    np.testing.assert_array_equal(encoder.transform(slices[0]), fitted.adatas["synthetic_0"].obsm["X_stgraph"])
    both = PretrainedEncoder(tmp_path).fit(slices[:1])
    assert both.transform(slices[1]).shape == (slices[1].n_obs, 84)
    config = to_config(both)
    assert to_config(instantiate(config)) == config


def test_a_saved_model_that_cannot_be_used(fitted, tissue, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        PretrainedEncoder(tmp_path).fit([tissue])
    fitted.pretrained.save(tmp_path)
    tissue.var_names = [f"other{i}" for i in range(tissue.n_vars)]
    with pytest.raises(InputError, match="has only 0 of the model's"):
        PretrainedEncoder(tmp_path).fit([tissue])
    with pytest.raises(InputError, match="given no slice"):
        PretrainedEncoder(tmp_path).fit([])


def test_config():
    model = {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 16}
    encoder = LearnedEncoder(QUICK | {"model": model, "num_hops": 2}, Context(), 4)
    config = to_config(encoder)
    again = instantiate(config)
    assert to_config(again) == config
    assert again.settings["model"] == model
    assert again.readout == Context()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainr": None}, r"no setting 'trainr'\. Did you mean 'trainer'\?"),
        ({"random_state": 1}, "no setting 'random_state'"),
        ({"domains": None}, "no setting 'domains'"),
    ],
)
def test_senseless_settings(settings, message):
    with pytest.raises(InputError, match=message):
        LearnedEncoder(settings)


def test_not_fitted(tissue):
    with pytest.raises(InputError, match=r"LearnedEncoder was not fitted: call fit\(slices\) first"):
        LearnedEncoder().transform(tissue)


class ModelEncoderContract(SliceEncoderContract):
    # Steps of floats: noise in the last digit grows.
    tolerance = 1e-3

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_tiny_slices(self, encoder, slices, n):
        """A graph of 18 neighbours needs more cells, and says so."""
        with pytest.raises(InputError, match="too few for 18 neighbours"):
            encoder.transform(slices[2][:n].copy())


class TestLearnedEncoder(ModelEncoderContract):
    make = staticmethod(lambda: LearnedEncoder(QUICK))


class TestWithThinnedCopies(ModelEncoderContract):
    make = staticmethod(lambda: WithThinnedCopies(LearnedEncoder(QUICK | {"virtual_cells": None}), shares=(0.5,)))
