import warnings

import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.nn.value_embedding import BinnedValues
from stgraph.objectives.masked_value import MaskedValue
from stgraph.tasks.value_cells import ValueCells
from stgraph.training.loop import Trainer

SMALL = {"hidden_channels": 16, "out_channels": 8, "num_layers": 1, "heads": 2, "ffn_channels": 16}
BINNED = {**SMALL, "value_embedding": {"_target_": "stgraph.nn.value_embedding.BinnedValues", "channels": 16}}


@pytest.fixture(scope="module")
def slices():
    return stgraph.synthetic_tissue(n_cells=400, n_genes=50, n_slices=2)


def quietly(encoder, slices):
    """Genes without counts are told; they are not what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        return encoder.fit(slices)


@pytest.fixture(scope="module", params=[SMALL, BINNED], ids=["continuous", "binned"])
def encoder(request, slices):
    return quietly(ValueCells(request.param, Trainer(max_steps=3)), slices)


def transform(encoder, adata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        return encoder.transform(adata)


def test_embeddings(encoder, slices):
    x = transform(encoder, slices[0])
    assert x.dtype == np.float32
    assert x.shape == (400, 8)
    fitted_to = np.concatenate([x, transform(encoder, slices[1])])
    np.testing.assert_allclose(fitted_to.var(axis=0).mean(), 1, atol=1e-3)
    assert len(encoder.history) == 3
    assert {"masked_value", "value_from_cell"} < set(encoder.history[0])


def test_a_cell_depends_on_no_other(encoder, slices):
    whole = transform(encoder, slices[0])
    some = transform(encoder, slices[0][50:80].copy())
    np.testing.assert_allclose(some, whole[50:80], atol=1e-4)


def test_same_numbers_twice(slices):
    first, second = (quietly(ValueCells(BINNED, Trainer(max_steps=3)), slices) for _ in range(2))
    np.testing.assert_array_equal(transform(first, slices[1]), transform(second, slices[1]))
    other = quietly(ValueCells(BINNED, Trainer(max_steps=3), random_state=1), slices)
    assert not np.array_equal(transform(first, slices[1]), transform(other, slices[1]))


def test_labels_are_not_looked_at(encoder, slices):
    bare = [adata.copy() for adata in slices]
    for adata in bare:
        adata.obs = adata.obs[["slice_id"]]
    again = quietly(instantiate(to_config(encoder)), bare)
    np.testing.assert_array_equal(transform(again, bare[0]), transform(encoder, slices[0]))


def test_state_and_config_lead_back(encoder, slices):
    state = {name: array.copy() for name, array in encoder.state().items()}
    again = instantiate(to_config(encoder)).load_state(state)
    assert to_config(again) == to_config(encoder)
    assert again.genes == encoder.genes
    np.testing.assert_array_equal(transform(again, slices[1]), transform(encoder, slices[1]))


def test_bins_are_learnt_from_the_cells(slices):
    encoder = quietly(ValueCells(BINNED, Trainer(max_steps=1)), slices)
    values = encoder.tokenize(slices[0]).values
    assert isinstance(encoder.network.value_embedding, BinnedValues)
    share = np.bincount(encoder.network.value_embedding.bins(_tensor(values[values > 0])).numpy(), minlength=32)
    assert share.max() < 0.2 * share.sum()  # not all in one, as in bins of other cells


def test_tokens_have_the_values_of_their_genes(encoder, slices):
    adata = slices[0]
    cells = encoder.tokenize(adata)
    row = 7
    own = slice(*cells.indptr[row : row + 2])
    counts = adata.X.toarray()[row]
    names = [encoder.genes[token - 2] for token in cells.tokens[own][1:]]
    expected = counts[adata.var_names.get_indexer(names)] / counts.sum() * 1e4
    np.testing.assert_allclose(cells.values[own][1:], expected, rtol=1e-5)
    assert cells.values[own][0] == 0


def test_without_training_it_says_so(slices):
    with pytest.warns(StgraphWarning) as told:
        encoder = ValueCells(SMALL, trainer=None).fit(slices)
    assert any("no trainer, so its network is as it was drawn" in str(warning.message) for warning in told)
    assert encoder.history == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": {"vocabulary_size": 5}}, "settings of ValueCells are those of ValueEncoder but vocabulary_size"),
        ({"objectives": []}, "a trainer and no objectives"),
        ({"objectives": [MaskedValue()]}, "ValueCells has only MaskedValue, which do not read the embedding"),
        ({"cells_per_batch": 1}, "cells_per_batch of at least 2"),
        ({"max_tokens": 100}, "max_tokens of at least 512"),
    ],
)
def test_senseless_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        ValueCells(**arguments)


def test_not_fitted_and_nothing_to_fit(slices):
    with pytest.raises(InputError, match="not fitted"):
        ValueCells().transform(slices[0])
    with pytest.raises(InputError, match="needs slices"):
        ValueCells().fit([])


def test_damaged_states(encoder):
    state = encoder.state()
    with pytest.raises(InputError, match="does not say how its network is built"):
        ValueCells().load_state({**state, "config": np.zeros(3, dtype=np.uint8)})
    with pytest.raises(InputError, match="must hold"):
        ValueCells().load_state({name: array for name, array in state.items() if name != "config"})
    del state["network.hidden_value"]
    with pytest.raises(CheckpointError, match="missing 'hidden_value'"):
        ValueCells().load_state(state)


def _tensor(values):
    import torch

    return torch.from_numpy(values)
