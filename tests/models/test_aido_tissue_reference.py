import numpy as np
import pytest
import torch

from stgraph._config import instantiate
from stgraph.data.cell_batch import CellBatch
from stgraph.data.depth_values import BatchDepth
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import StgraphWarning
from stgraph.models.aido_tissue_reference import AIDOTissueReference
from stgraph.models.aido_tissue_release import load_aido_tissue
from stgraph.nn.module_config import module_config
from stgraph.testing.neighborhood_network import NUM_GENES, of_rows, planted_neighborhoods


@pytest.fixture
def reference():
    torch.manual_seed(0)
    model = AIDOTissueReference(NUM_GENES, 16, 2, 2, 24, 5, decoder_channels=8, decoder_ffn_channels=16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def corrected(reference):
    """Of the same arguments and weights."""
    config = module_config(reference) | {"_target_": "stgraph.models.aido_tissue.AIDOTissue"}
    model = instantiate(config)
    model.load_state_dict(reference.state_dict())
    return model.eval()


def cells_of(num_cells, num_tokens):
    """Each cell its own neighbourhood."""
    generator = torch.Generator().manual_seed(0)
    token = torch.stack(
        [torch.randperm(NUM_GENES, generator=generator)[:num_tokens].sort().values for _ in range(num_cells)]
    )
    return CellBatch(
        token.flatten(),
        torch.arange(num_cells + 1) * num_tokens,
        torch.arange(num_cells),
        torch.rand(token.numel(), generator=generator),
    )


def test_without_padding_it_is_the_corrected_one(reference, corrected):
    # two cells of eight tokens in each neighbourhood: sixteen
    neighbors = torch.tensor([[0, 1], [2, 0], [1, 2]])
    panel = torch.zeros(3, dtype=torch.int64)
    batch = NeighborhoodBatch(cells_of(3, 8), neighbors, torch.zeros(3, 2), panel, (torch.arange(NUM_GENES),))
    assert reference.pad(batch).gene.shape == (3, 16)
    ours, theirs = corrected(batch), reference(batch)
    torch.testing.assert_close(theirs.token, ours.token, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs.center, ours.center, rtol=0, atol=1e-5)
    assert torch.equal(theirs.offsets, ours.offsets)


def test_padding_is_attended_to(reference, corrected):
    batch = planted_neighborhoods()
    assert (reference.embed(batch) - corrected.embed(batch)).abs().max() > 1e-2
    longer = max(range(5), key=lambda row: int(batch.pack().lengths[row]))
    shorter = min(range(5), key=lambda row: int(batch.pack().lengths[row]))
    together = reference.embed(of_rows(batch, [shorter, longer]))[0]
    assert (together - reference.embed(of_rows(batch, [shorter]))[0]).abs().max() > 1e-2


def test_padding(reference):
    batch = planted_neighborhoods()
    packed, padded = batch.pack(), reference.pad(batch)
    length = int(packed.lengths.max())
    assert padded.gene.shape == (5, -(-length // 16) * 16)
    for row in range(5):
        part = packed.source[packed.offsets[row] : packed.offsets[row + 1]]
        n = len(part)
        assert torch.equal(padded.gene[row, :n], batch.unique.tokens[part])
        assert torch.equal(padded.value[row, :n], batch.unique.values[part])
        assert bool((padded.gene[row, n:] == NUM_GENES + 2).all())
        assert bool((padded.slot[row, n:] == NUM_GENES + 2).all())
        assert bool((padded.value[row, n:] == -2).all())


def test_hidden_values_are_told_by_the_same_decoder(reference, corrected):
    batch = planted_neighborhoods()
    states = reference(batch)
    assert torch.equal(reference.predict_hidden(states, batch), corrected.predict_hidden(states, batch))
    assert reference.vocabulary_size == NUM_GENES + 3
    assert reference.out_channels == 16


@pytest.mark.real
def test_the_golden_states(data_dir):
    """Tokens of the release exactly, states and pooled centres to 1e-4."""
    golden = dict(np.load(data_dir / "golden" / "aido_tissue_3m_random.npz"))
    with pytest.warns(StgraphWarning, match="non-commercial"):
        reference = load_aido_tissue(
            data_dir / "golden" / "aido_tissue_3m_random.safetensors", network=AIDOTissueReference
        )
    batch = golden_batch(golden)
    padded = reference.pad(batch)
    assert np.array_equal(padded.gene.numpy(), golden["gene_id"])
    assert np.array_equal(padded.slot.numpy(), golden["cell_index"])
    assert np.array_equal(padded.value.numpy(), golden["token_value"])
    with torch.no_grad():
        states, pooled = reference.hidden_states(padded).numpy(), reference.embed(batch).numpy()
    np.testing.assert_allclose(states, golden["last_hidden_state"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(pooled, golden["centre_max_pool"], rtol=0, atol=1e-4)


def golden_batch(golden):
    """Neighbourhoods of the counts, with the values of the release."""
    num_cells, num_slots, num_genes = golden["shape"]
    index = golden["count_index"].astype(np.int64)
    order = np.lexsort(index.T[::-1])
    cell, slot, gene = index[order].T
    total = int(num_cells * num_slots)
    row = torch.from_numpy(cell * num_slots + slot)
    of_slot = torch.arange(total) % num_slots
    offsets = torch.nn.functional.pad(torch.bincount(row, minlength=total).cumsum(0), (1, 0))
    values, depth = BatchDepth()(torch.from_numpy(golden["count_value"][order]), offsets, of_slot)
    rows = torch.cat([row, torch.arange(total).repeat_interleave(2)])
    token = torch.cat([torch.from_numpy(gene), torch.tensor([num_genes, num_genes + 1]).repeat(total)])
    by_cell = rows.argsort(stable=True)
    cells = CellBatch(
        token[by_cell],
        torch.nn.functional.pad(torch.bincount(rows).cumsum(0), (1, 0)),
        torch.arange(total),
        torch.cat([values, depth.repeat_interleave(2)])[by_cell],
    )
    neighbors = torch.arange(total).view(num_cells, num_slots)
    panel = torch.zeros(num_cells, dtype=torch.int64)
    return NeighborhoodBatch(cells, neighbors, torch.zeros(neighbors.shape), panel, (torch.arange(num_genes),))
