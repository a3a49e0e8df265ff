import os
import pickle
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

import stgraph
from stgraph.data.corpus import build_corpus
from stgraph.data.parts import part_data
from stgraph.data.store import CorpusDataset, PartOrderSampler
from stgraph.errors import InputError, StgraphWarning, StoreError
from stgraph.graph.builders import KNN
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.virtual_cells import JointLeiden
from stgraph.partition.halo import part_with_halo
from stgraph.partition.spatial import CoordinateBisection


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    for name, tissue in zip("abc", stgraph.synthetic_tissue(n_cells=150, n_genes=60, n_slices=3), strict=True):
        adata = tissue[:, 5:].copy() if name == "c" else tissue
        del adata.obs["slice_id"]
        adata.obs["batch"] = name
        if name == "c":
            del adata.obs["domain"]
        adata.write_h5ad(folder / f"{name}.h5ad")
    return {name: folder / f"{name}.h5ad" for name in "abc"}


def build(sources, folder, **options):
    settings = {"builder": KNN(6), "partitioner": CoordinateBisection(40), "virtual_cells": JointLeiden()} | options
    with pytest.warns(StgraphWarning, match="c: obs has no column 'domain'"):
        build_corpus(list(sources.values()), folder, obs_columns=["domain", "batch"], **settings)
    return folder


@pytest.fixture(scope="module")
def corpus(sources, tmp_path_factory):
    return build(sources, tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture
def own(sources, tmp_path):
    """A corpus that a test may damage."""
    return build(sources, tmp_path / "c")


@pytest.mark.parametrize("num_hops", [0, 1, 2])
def test_parts_are_those_of_the_slice(corpus, sources, num_hops):
    dataset = CorpusDataset(corpus, num_hops=num_hops, counts=True)
    assert len(dataset) == 12
    seen = {name: [] for name in dataset.slices}
    for index in range(len(dataset)):
        data, name = dataset[index], dataset.slice_of(index)
        graph, cell = dataset.graph(name), data["cell"]
        owned = cell.index[cell.owned].numpy()
        wanted = part_data(graph, part_with_halo(graph, owned, num_hops))
        assert wanted.edge_types == data.edge_types
        for edge_type in wanted.edge_types:
            assert torch.equal(data[edge_type].edge_index, wanted[edge_type].edge_index)
            assert torch.equal(data[edge_type].edge_attr, wanted[edge_type].edge_attr)
        for key in ("x", "pos", "owned", "index"):
            assert torch.equal(cell[key], wanted["cell"][key])
        assert data.slice_id == name
        adata = stgraph.read(sources[name])
        names = dataset.names(name)
        assert [names[i] for i in cell.index.tolist()] == adata.obs_names[cell.row.numpy()].tolist()
        dense = np.zeros((len(cell.x), len(dataset.genes)), dtype=int)
        dense[np.repeat(np.arange(len(cell.x)), cell.num_genes), cell.gene] = cell["count"]
        measured = dataset.measured(name)
        assert np.array_equal(np.array(dataset.genes)[measured], sorted(adata.var_names))
        assert np.array_equal(
            dense[:, measured], adata[cell.row.numpy(), np.array(dataset.genes)[measured]].X.toarray()
        )
        assert dense[:, ~measured].sum() == 0
        for i, column in enumerate(dataset.obs_columns):
            texts = np.array([*dataset.categories[column], "none"])[cell.y[:, i]]
            told = adata.obs[column].to_numpy()[cell.row] if column in adata.obs else np.full(len(texts), "none")
            assert texts.tolist() == told.tolist()
        seen[name] += cell.row[cell.owned].tolist()
    assert {name: sorted(rows) for name, rows in seen.items()} == {name: list(range(150)) for name in "abc"}


def test_options(corpus):
    plain = CorpusDataset(corpus, informs=False)[0]
    assert ("virtual", "informs", "cell") not in plain.edge_types
    assert "gene" not in plain["cell"]
    assert CorpusDataset(corpus, transform=lambda data: data["cell"].num_nodes)[0] > 30
    dataset = CorpusDataset(corpus)
    assert torch.equal(dataset[-1]["cell"].x, dataset[11]["cell"].x)
    assert dataset.slice_of(-1) == "c"
    for index in (12, -13):
        with pytest.raises(IndexError, match=f"no part {index}"):
            dataset[index]
    with pytest.raises(InputError, match="num_hops"):
        CorpusDataset(corpus, num_hops=-1)
    with pytest.raises(InputError, match="no slice 'd'; it has: a, b, c"):
        dataset.graph("d")


def test_parts_do_not_share_memory_with_the_file(own):
    before = {path: path.read_bytes() for path in own.rglob("*.safetensors")}
    for data in CorpusDataset(own, counts=True):
        for store in data.stores:
            for value in store.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
    assert {path: path.read_bytes() for path in before} == before


def batches(dataset, **options):
    return [batch.to_dict() for batch in DataLoader(dataset, batch_size=3, **options)]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for key, value in other.items():
            if isinstance(value, dict):
                assert_same([mine[key]], [value])
            elif isinstance(value, torch.Tensor):
                assert torch.equal(mine[key], value), key
            else:
                assert mine[key] == value


def test_batches_join_ragged_counts(corpus):
    dataset = CorpusDataset(corpus, counts=True)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    parts = [dataset[i]["cell"] for i in range(3)]
    for key in ("gene", "count", "num_genes", "row", "y", "x"):
        assert torch.equal(batch["cell"][key], torch.cat([part[key] for part in parts])), key
    assert int(batch["cell"].num_genes.sum()) == len(batch["cell"].gene)
    assert len(batch["cell"].ptr) == 4


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_same(corpus, context):
    dataset = CorpusDataset(corpus, counts=True)
    wanted = batches(CorpusDataset(corpus, counts=True))
    dataset[0]  # maps are open as the workers begin
    assert_same(batches(dataset, num_workers=2, multiprocessing_context=context), wanted)


def test_a_pickled_data_set_leaves_its_maps_behind(corpus):
    dataset = CorpusDataset(corpus)
    empty = len(pickle.dumps(dataset))
    dataset[0], dataset[11]
    assert len(pickle.dumps(dataset)) == empty
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[5]["cell"].x, dataset[5]["cell"].x)


def test_open_maps_are_bounded(corpus, monkeypatch):
    monkeypatch.setattr("stgraph.data.store._MAX_OPEN", 1)
    dataset = CorpusDataset(corpus, num_hops=1)

    def mapped():
        return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if str(corpus) in line}

    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells what is mapped")
    before = len(mapped())
    for index in (0, 11, 5, 0, 11):
        dataset[index]
        assert len(mapped()) <= before + 1


def test_each_part_is_verified_once(corpus, monkeypatch):
    from stgraph.data.shards import Shard

    verified = []
    verify = Shard.verify
    monkeypatch.setattr(
        Shard, "verify", lambda self, part: (verified.append((self.slice_id, part)), verify(self, part))
    )
    dataset = CorpusDataset(corpus, num_hops=0)
    dataset[0]
    assert verified == [("a", 0)]
    CorpusDataset(corpus, num_hops=1)[0]
    assert set(verified[1:]) > {("a", 0)}
    for index in [*range(12), *range(12)]:
        dataset[index]
    assert sorted(verified) == sorted([*verified[1:][: len(verified) - 12], *((s, p) for s in "abc" for p in range(4))])


def damage(path, name, part):
    """Change a byte of one array where a part has it."""
    from stgraph.data.shards import Shard

    shard = Shard(path)
    array = shard.arrays[name]
    base = shard.arrays["x"].__array_interface__["data"][0]
    first = shard.bounds(part)[0]
    content = bytearray(path.read_bytes())
    offset = content.index(shard.arrays["x"].tobytes()) + array.__array_interface__["data"][0] - base
    content[offset + first * array.strides[0]] ^= 4
    del shard, array
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


def test_a_damaged_part_is_named_and_no_other(own):
    damage(own / "shards" / "b.safetensors", "x", 2)
    dataset = CorpusDataset(own, num_hops=0)
    for index in (0, 4, 5, 7, 11):
        dataset[index]
    with pytest.raises(StoreError, match=r"b\.safetensors' is damaged: part 2 has changed.*stgraph corpus build"):
        dataset[6]
    with pytest.raises(StoreError, match="part 2 has changed"):
        dataset.graph("b")
    near = CorpusDataset(own, num_hops=3)
    with pytest.raises(StoreError, match="part 2 has changed"):
        [near[i] for i in (4, 5)]  # their halo lies in the damaged part


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda path: os.truncate(path, 9000), r"b\.safetensors' has .* bytes of arrays, not .*truncated"),
        (Path.unlink, r"b\.safetensors' cannot be read \(No such file"),
        (lambda path: path.write_bytes(path.with_name("a.safetensors").read_bytes()), "not the one of the manifest"),
    ],
)
def test_a_lost_shard_is_named(own, edit, message):
    edit(own / "shards" / "b.safetensors")
    dataset = CorpusDataset(own)
    dataset[0]
    with pytest.raises(StoreError, match=message):
        dataset[4]


def test_a_shard_of_another_build_is_refused(own, sources, tmp_path):
    """As when the corpus is built anew while it is read: as many cells and parts, of other features."""
    dataset = CorpusDataset(own)
    dataset[0]
    build(sources, tmp_path / "other", sample_cells=30)
    for name in "ab":
        (tmp_path / "other" / "shards" / f"{name}.safetensors").replace(own / "shards" / f"{name}.safetensors")
    dataset[1]  # what is mapped stays what it was
    with pytest.raises(StoreError, match=r"b\.safetensors' is not the one of the manifest"):
        dataset[4]
    with pytest.raises(StoreError, match=r"a\.safetensors' is not the one of the manifest"):
        CorpusDataset(own)[0]


def test_no_corpus(tmp_path):
    with pytest.raises(StoreError, match="There is no corpus"):
        CorpusDataset(tmp_path / "nowhere")


def test_sampler(corpus):
    dataset = CorpusDataset(corpus)
    sampler = PartOrderSampler(dataset, window=1)
    first, second = list(sampler), list(sampler)
    assert len(sampler) == 12
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    for order in (first, second):
        slices = [dataset.slice_of(index) for index in order]
        assert sum(a != b for a, b in pairwise(slices)) == 2
    mixed = [dataset.slice_of(index) for index in PartOrderSampler(dataset, window=3)]
    assert sum(a != b for a, b in pairwise(mixed)) > 2
    assert list(PartOrderSampler(dataset, random_state=1)) == list(PartOrderSampler(dataset, random_state=1))
    assert len(list(DataLoader(dataset, sampler=sampler, batch_size=5))) == 3
    with pytest.raises(InputError, match="window"):
        PartOrderSampler(dataset, window=0)


@dataclass(frozen=True)
class Uneven:
    """Virtual cells with a parent for large slices only: a part of a researcher's own."""

    def __call__(self, x, pos):
        return (Hierarchical() if len(x) > 200 else JointLeiden())(x, pos)


def test_slices_with_other_levels_are_not_batched(tmp_path):
    for name, n_cells in (("a", 150), ("b", 250)):
        adata = stgraph.synthetic_tissue(n_cells=n_cells, n_genes=60)[0]
        del adata.obs["slice_id"]
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    build_corpus([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], tmp_path / "corpus", virtual_cells=Uneven())
    dataset = CorpusDataset(tmp_path / "corpus")
    dataset[0]
    with pytest.raises(InputError, match="'b' has 2 levels of virtual cells and others 1"):
        dataset[len(dataset) - 1]
