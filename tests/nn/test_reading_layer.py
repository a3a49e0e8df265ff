import pytest
import torch

from stgraph.errors import InputError
from stgraph.nn.cell_summaries import CellSummaries
from stgraph.nn.neighbor_keys import NeighborKeys, NeighborPlaces
from stgraph.nn.reading_layer import ReadingLayer, joint_attention, reading_groups


def test_joint_attention_is_one_softmax_over_both_kinds_of_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    readers, read, keys = torch.tensor([2, 0, 3, 2, 1]), torch.tensor([4, 2, 3, 4, 0]), torch.tensor([3, 1, 0, 3, 0])
    rows, sizes = reading_groups(readers, read, keys)
    assert sum(n for n, *_ in sizes) == 5
    query, own, beside = (
        [torch.randn(int(n), *shape, generator=generator) for n in lengths]
        for lengths, shape in ((readers, (2, 4)), (read, (2, 2, 4)), (keys, (2, 2, 4)))
    )
    found = joint_attention(*(torch.cat([each[row] for row in rows]) for each in (query, own, beside)), sizes)
    expected = []
    for row in rows:
        k, v = torch.cat([own[row], beside[row]]).unbind(1)
        weights = (torch.einsum("qhd,khd->hqk", query[row], k) / 2).softmax(-1)
        expected.append(torch.einsum("hqk,khd->qhd", weights, v))
    torch.testing.assert_close(found, torch.cat(expected))


def test_no_sequences() -> None:
    assert joint_attention(torch.zeros(0, 2, 4), torch.zeros(0, 2, 2, 4), None, ()).shape == (0, 2, 4)


def test_readers_may_be_others_than_what_is_read() -> None:
    torch.manual_seed(0)
    layer = ReadingLayer(8, heads=2, ffn_channels=16)
    x = torch.randn(3, 8)
    assert torch.equal(layer(x, ((1, 3, 3, 0),)), layer(x, ((1, 3, 3, 0),), source=x))
    assert not torch.equal(layer(x[:1], ((1, 1, 3, 0),), source=x), layer(x[:1], ((1, 1, 1, 0),)))


@pytest.mark.parametrize(("wrong", "message"), [({"heads": 3}, "multiple of heads"), ({"dropout": 1.0}, "dropout")])
def test_wrong_layers(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReadingLayer(8, **{"heads": 2, "ffn_channels": 16} | wrong)


def test_places_tell_distances_and_ranks_apart() -> None:
    near = torch.tensor([[0, 1, 2]])
    places = [
        NeighborPlaces.of(near, torch.tensor([far]), 48).place
        for far in ([5.0, 10.0, 20.0], [50.0, 100.0, 200.0], [5.0, 10.0, 20.5])
    ]
    assert (places[0] - places[1]).abs().amax(1).min() > 0.5
    assert (places[0] - places[2])[2].abs().max() > 1e-3
    assert torch.equal(places[0][:, 24:], places[1][:, 24:])  # ranks are the same
    assert (places[0][1:, 24:] - places[0][:-1, 24:]).abs().amax(1).min() > 0.3


def test_coincident_cells_have_places() -> None:
    found = NeighborPlaces.of(torch.tensor([[0]]), torch.tensor([[0.0]]), 8)
    assert torch.isfinite(found.place).all()


def test_keys_of_a_cell_differ_by_place_alone() -> None:
    torch.manual_seed(0)
    keys = NeighborKeys(8, heads=2, num_places=16)
    places = NeighborPlaces.of(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0, 9.0], [1.0, 9.0]]), 16)
    shown = keys(torch.randn(2, 3, 8), places).unflatten(0, (4, 3))
    # of cell 0 nearest and second, cell 1 second and nearest: places add the same to both cells
    torch.testing.assert_close(shown[0] - shown[3], shown[2] - shown[1])
    assert (shown[0] - shown[3]).abs().max() > 1e-2


def test_summaries_tell_values_apart_from_the_start() -> None:
    torch.manual_seed(0)
    summaries = CellSummaries(8, heads=2, ffn_channels=16, num_summaries=3)
    states, weighted = torch.randn(2, 8).repeat(2, 1), torch.randn(2, 8)
    found = summaries(states, weighted, ((2, 2),))
    assert (found[0] - found[1]).abs().max() > 0.1
