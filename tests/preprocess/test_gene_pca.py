import numpy as np
import pytest

import stgraph
from stgraph._config import config_dir, instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.errors import InputError
from stgraph.preprocess.gene_pca import GenePCA
from stgraph.preprocess.gene_values import LogValues
from stgraph.preprocess.pearson import PearsonPCA, PearsonResiduals
from stgraph.training.loop import Trainer

EITHER = pytest.mark.parametrize("values", [LogValues(), PearsonResiduals(theta=20.0)], ids=["log", "pearson"])


def half(adata):
    """The left half: composed otherwise than the whole, for regions are places."""
    x = adata.obsm["spatial"][:, 0]
    return x < np.median(x)


def test_components_by_dense_numpy(slices):
    """Centred by the mean of all cells together, not slice by slice."""
    fitted = LogValues().fit(slices)
    x = np.concatenate([b for adata in slices for b in fitted.blocks(adata, np.arange(80))]).astype(np.float64)
    u, singular, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    encoder = GenePCA(n_components=5).fit(slices)
    found = np.concatenate([encoder.transform(adata) for adata in slices])
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :5] * singular[:5]), atol=1e-3 * singular[0])


@EITHER
def test_whitened_features_have_unit_variance_in_training_and_only_there(slices, values):
    slices[1] = slices[1][half(slices[1])].copy()
    white, plain = (GenePCA(n_components=5, values=values, whiten=w).fit(slices) for w in (True, False))
    x, y = (np.concatenate([encoder.transform(adata) for adata in slices]) for encoder in (white, plain))
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(x * y.std(axis=0), y, atol=1e-3)  # nothing but scaled
    assert (y.std(axis=0) > 1.2).any()
    assert np.abs(white.transform(slices[1]).std(axis=0) - 1).max() > 0.02  # not by the slice that is described


@EITHER
def test_half_a_slice_is_described_as_in_the_whole(slices, values):
    encoder = GenePCA(n_components=5, values=values, whiten=True).fit(slices[:1])
    part = half(slices[1])
    alone = encoder.transform(slices[1][part].copy())
    np.testing.assert_allclose(alone, encoder.transform(slices[1])[part], atol=1e-5)
    assert np.abs(alone.mean(axis=0)).max() > 0.1  # it would be zero, were it centred by its own mean


@EITHER
@pytest.mark.parametrize("whiten", [False, True])
def test_state_makes_the_round_trip_to_the_bit(slices, values, whiten):
    encoder = GenePCA(n_components=5, values=values, whiten=whiten).fit(slices)
    state = encoder.state()
    again = instantiate(to_config(encoder)).load_state({name: array.copy() for name, array in state.items()})
    assert again.genes == encoder.genes
    assert again.state().keys() == state.keys()
    for name, array in again.state().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == state[name].dtype
    for adata in slices:
        np.testing.assert_array_equal(again.transform(adata), encoder.transform(adata))


@EITHER
def test_values_make_the_round_trip(slices, values):
    fitted = instantiate(to_config(values)).fit(slices)
    again = instantiate(to_config(values)).load_state(fitted.state())
    for block, other in zip(*(v.blocks(slices[1], np.arange(80)) for v in (fitted, again)), strict=True):
        np.testing.assert_array_equal(block, other)
    name = type(values).__name__
    with pytest.raises(InputError, match=f"state of {name} must hold"):
        again.load_state({"genes": fitted.state()["genes"]})
    for wrong in ({"share": np.ones(3)}, {("target" if name == "LogValues" else "clip"): np.ones(2)}):
        with pytest.raises(InputError, match=f"state of {name} has arrays of shapes that do not fit"):
            again.load_state(fitted.state() | wrong)
    assert again.genes == fitted.genes


def test_a_state_of_other_values_is_refused(slices):
    state = GenePCA(values=PearsonResiduals()).fit(slices).state()
    with pytest.raises(InputError, match=r"state of LogValues must hold .*'target'.*'clip'"):
        GenePCA().load_state(state)
    assert PearsonPCA().load_state(state).genes == list(slices[0].var_names)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda state: {"axes": state["axes"][:, 1:]},
        lambda state: {"axes": state["axes"][1:]},
        lambda state: {"mean": state["mean"][1:]},
        lambda state: {"scale": state["scale"][:, None]},
        lambda state: {"top": state["top"] + 1},  # the last is no gene
        lambda state: {"top": state["top"] - 1},
        lambda state: {"top": state["top"].astype(float)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(slices, wrong):
    encoder = GenePCA(n_components=4).fit(slices)
    before = encoder.transform(slices[0])
    with pytest.raises(InputError, match="state of GenePCA has arrays of shapes that do not fit"):
        encoder.load_state(encoder.state() | wrong(encoder.state()))
    np.testing.assert_array_equal(encoder.transform(slices[0]), before)  # and nothing of them is taken over


def test_missing_arrays_and_strange_ones_are_refused(slices):
    state = GenePCA().fit(slices).state()
    with pytest.raises(InputError, match="state of GenePCA must hold"):
        GenePCA().load_state({name: array for name, array in state.items() if name != "scale"})
    with pytest.raises(InputError, match="must hold"):
        GenePCA().load_state(state | {"values.more": np.ones(1)})


def test_the_argument_stays_as_it_was_given(slices):
    values = LogValues()
    encoder = GenePCA(values=values).fit(slices)
    GenePCA(values=values).load_state(encoder.state())
    assert not values.genes
    assert to_config(encoder) == to_config(GenePCA())


def test_pearson_pca_is_a_short_name(slices):
    short = PearsonPCA(n_components=6, theta=20.0, whiten=True).fit(slices)
    long = GenePCA(n_components=6, values=PearsonResiduals(20.0), whiten=True).fit(slices)
    np.testing.assert_array_equal(short.transform(slices[1]), long.transform(slices[1]))
    assert set(to_config(short)) == {
        "_target_", "n_top_genes", "n_components", "theta", "min_shared_genes", "whiten",
    }  # fmt: skip
    assert instantiate(to_config(short)) == PearsonPCA(n_components=6, theta=20.0, whiten=True)


@pytest.mark.parametrize("bad", [{"n_top_genes": 0}, {"n_components": 0}, {"n_components": 2.5}])
def test_senseless_settings(bad):
    with pytest.raises(InputError, match="GenePCA needs positive, whole n_top_genes and n_components"):
        GenePCA(**bad)


def test_what_was_not_fitted_has_no_state():
    with pytest.raises(InputError, match="GenePCA was not fitted"):
        GenePCA().state()


def test_the_choice_of_the_command_line():
    assert (config_dir() / "encoder" / "gene_pca.yaml").is_file()
    encoder = compose_config("fit", ["encoder=gene_pca"])["encoder"]
    assert to_config(instantiate(encoder)) == encoder == to_config(GenePCA(whiten=True))


def test_a_model_that_stands_on_it_is_saved_and_gives_the_same_numbers(slices, tmp_path):
    result = stgraph.fit(
        slices, encoder=GenePCA(whiten=True), virtual_cells=None, trainer=Trainer(max_steps=2), progress=False
    )
    result.pretrained.save(tmp_path / "model")
    again = stgraph.from_pretrained(tmp_path / "model")
    assert to_config(again.encoder) == to_config(GenePCA(whiten=True))
    for adata, found in zip(slices, result.adatas.values(), strict=True):
        features = result.pretrained.encoder.transform(adata)
        np.testing.assert_array_equal(again.encoder.transform(adata), features)
        embedded = stgraph.embed(adata, again)
        np.testing.assert_array_equal(embedded.obsm["X_stgraph"], found.obsm["X_stgraph"])
        assert embedded.obs["stgraph_domain"].tolist() == found.obs["stgraph_domain"].tolist()
