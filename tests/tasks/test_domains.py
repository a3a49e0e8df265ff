import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.tasks.domains import MixtureDomains, fit_mixture


@pytest.fixture
def study():
    """Two slices with three well separated domains of 120, 60 and 30 cells."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [120, 60, 30])
    centers = rng.normal(size=(3, 5)) * 10
    embeddings = [centers[truth] + rng.normal(size=(210, 5)) for _ in range(2)]
    positions = [truth[:, None] * 100 + rng.uniform(size=(210, 2)) * 10 for _ in range(2)]
    return truth, embeddings, positions


def test_finds_domains_that_mean_the_same_in_both_slices(study):
    truth, embeddings, positions = study
    domains = MixtureDomains(n_domains=3).fit(embeddings, positions)
    for embedding, pos in zip(embeddings, positions, strict=True):
        np.testing.assert_array_equal(domains.predict(embedding, pos), truth)  # the largest is 0


def test_predict_is_what_the_mixture_says(study):
    _, embeddings, positions = study
    domains = MixtureDomains(n_domains=4, n_neighbors=0, n_components=5).fit(embeddings, positions)
    mixture = fit_mixture(np.concatenate(embeddings), 4, n_init=5, random_state=0)
    ours = np.concatenate([domains.predict(e, p) for e, p in zip(embeddings, positions, strict=True)])
    assert adjusted_rand_score(mixture.predict(np.concatenate(embeddings)), ours) > 0.99


def test_overlapping_domains_of_unequal_size_are_told_apart_as_the_mixture_does():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (900, 1)), rng.normal(3, 1, (60, 1))])
    domains = MixtureDomains(2, n_neighbors=0).fit([x], [rng.normal(size=(960, 2))])
    mixture = fit_mixture(x, 2, random_state=0)
    largest = np.bincount(mixture.predict(x)).argmax()
    grid = np.linspace(-2, 5, 200)[:, None]
    ours = domains.predict(grid, np.zeros((200, 2)))
    np.testing.assert_array_equal(ours, mixture.predict(grid) != largest)
    assert grid[ours == 1].min() > 1.6  # beyond the middle between the two: weights count


def test_smoothing_mends_noise():
    rng = np.random.default_rng(0)
    pos = rng.uniform(0, 100, (600, 2))
    truth = (pos[:, 0] > 50).astype(int)
    x = truth[:, None] * 1.5 + rng.normal(size=(600, 3))
    score = [
        adjusted_rand_score(truth, MixtureDomains(2, n_neighbors=k).fit([x], [pos]).predict(x, pos)) for k in (0, 12)
    ]
    assert score[1] > score[0] + 0.1
    assert score[1] > 0.85


def test_same_seed_same_domains(study):
    _, embeddings, positions = study
    one, two = (MixtureDomains(5, random_state=1).fit(embeddings, positions) for _ in range(2))
    np.testing.assert_array_equal(one.predict(embeddings[0], positions[0]), two.predict(embeddings[0], positions[0]))


def test_state_is_all_there_is(study):
    _, embeddings, positions = study
    domains = MixtureDomains(3).fit(embeddings, positions)
    again = MixtureDomains(3).load_state(domains.state())
    np.testing.assert_array_equal(
        again.predict(embeddings[0], positions[0]), domains.predict(embeddings[0], positions[0])
    )
    with pytest.raises(InputError, match="must hold"):
        MixtureDomains(3).load_state({"mean": np.zeros(2)})


def test_identical_cells_do_not_break_it():
    x, pos = np.zeros((20, 3)), np.random.default_rng(0).normal(size=(20, 2))
    assert set(MixtureDomains(2).fit([x], [pos]).predict(x, pos)) <= {0, 1}


def test_bad_requests(study):
    _, embeddings, positions = study
    with pytest.raises(InputError, match="cannot be split into 500 domains"):
        MixtureDomains(500).fit(embeddings, positions)
    with pytest.raises(InputError, match="were not fitted"):
        MixtureDomains(2).predict(embeddings[0], positions[0])
    with pytest.raises(InputError, match="positive n_domains"):
        MixtureDomains(0)
