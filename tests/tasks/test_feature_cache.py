"""Features are found again if, and only if, nothing they follow from has changed."""

import numpy as np
import pytest

from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.feature_cache import FeatureCache, state_hash


class Counting(LogPCA):
    """Counts how often it is asked."""

    asked = 0

    def transform(self, adata):
        type(self).asked += 1
        return super().transform(adata)


@pytest.fixture
def encoder(slices):
    Counting.asked = 0
    return Counting(n_components=4).fit(slices)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def test_computed_once(cache, encoder, tissue):
    first, again = cache(encoder, tissue), cache(encoder, tissue)
    assert Counting.asked == 1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, LogPCA.transform(encoder, tissue))


def test_another_process_finds_it(cache, encoder, tissue):
    cache(encoder, tissue)
    FeatureCache(cache.folder)(encoder, tissue)
    assert Counting.asked == 1


def test_labels_do_not_matter(cache, encoder, tissue):
    cache(encoder, tissue)
    tissue.obs["label"] = "a"
    cache(encoder, tissue)
    assert Counting.asked == 1


def test_another_encoder_of_the_same_name_finds_nothing(cache, encoder, tissue, slices):
    """The stale cache of SToFM: its file is named after the slice alone."""
    cache(encoder, tissue)
    trained_on = Counting(n_components=4).fit(slices[1:])
    np.testing.assert_array_equal(cache(trained_on, tissue), LogPCA.transform(trained_on, tissue))
    encoder._arrays["components"] = encoder._arrays["components"] * 2  # as after one more step of training
    np.testing.assert_array_equal(cache(encoder, tissue), LogPCA.transform(encoder, tissue))
    assert Counting.asked == 3


def test_other_settings_find_nothing(cache, encoder, tissue):
    cache(encoder, tissue)
    plain = Counting(n_components=4, whiten=False).load_state(encoder.state())
    assert cache.key(plain, tissue) != cache.key(encoder, tissue)


def test_another_count_finds_nothing(cache, encoder, tissue):
    cache(encoder, tissue)
    tissue.X.data[0] += 1
    np.testing.assert_array_equal(cache(encoder, tissue), LogPCA.transform(encoder, tissue))
    assert Counting.asked == 2


@pytest.mark.parametrize("damage", [lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: b"abc"])
def test_a_damaged_file_is_written_anew(cache, encoder, tissue, damage):
    x = np.array(cache(encoder, tissue))
    (file,) = cache.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cache(encoder, tissue), x)
    assert Counting.asked == 2


def test_of_several_processes_one_writes(cache, encoder, tissue, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    cache(encoder, tissue)
    assert not cache.folder.exists()


def test_state_hash_sees_names_shapes_types_and_bytes():
    states = [{"a": np.zeros(4)}, {"b": np.zeros(4)}, {"a": np.zeros((2, 2))}, {"a": np.zeros(4, np.float32)},
              {"a": np.array([0.0, 0, 0, 1])}, {"a": np.zeros(4), "b": np.zeros(0)}]  # fmt: skip
    assert len({state_hash(state) for state in states}) == len(states)
    assert state_hash(states[0]) == state_hash({"a": np.zeros(4)})
