import json
import struct
import zlib
from dataclasses import fields

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from stgraph.data import shards, writing
from stgraph.data.arrays import map_arrays, write_arrays
from stgraph.data.shards import Shard, is_symmetric
from stgraph.data.writing import ShardContent, write_shard
from stgraph.errors import StoreError
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph, VirtualCells
from stgraph.graph.virtual_cells import aggregate

N, C, G = 60, 3, 20


def make_content(*, levels=1, symmetric=True, seed=0, largest=9):
    rng = np.random.default_rng(seed)
    pos, x = rng.normal(size=(N, 2)) * 100, rng.normal(size=(N, C)).astype(np.float32)
    pos[1] = pos[0]  # an edge of length zero
    virtual = None
    if levels:
        virtual = aggregate(rng.permutation(np.arange(N) % 6), x, pos)
    if levels == 2:
        above = aggregate(np.arange(6) % 2, virtual.x, virtual.pos)
        virtual = VirtualCells(virtual.membership, virtual.x, virtual.pos, virtual.num_cells, above)
    counts = rng.poisson(1.0, (N, G))
    counts[3, 7] = largest
    return ShardContent(
        graph=SliceGraph("täst", x, pos, KNN(4, symmetric=symmetric)(pos), virtual, 0.1 + 0.2, "um"),
        membership=rng.permutation(np.arange(N) % 5),
        counts=sp.csr_matrix(counts),
        measured=np.array([0, *range(2, G)]),
        row=rng.permutation(1000)[:N],
        names=[f"cell µ{'x' * (i % 3)}{i}" for i in range(N)],
        labels=np.stack([np.arange(N) % 3 - 1, np.zeros(N)], axis=1).astype(int),
        categories={"domain": ["a", "b"], "batch": ["z"]},
        source={"file": "a.h5ad"},
    )


def equal_virtual(ours, theirs, order):
    if theirs is None:
        return ours is None
    for field in fields(theirs):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "parent":
            assert equal_virtual(mine, other, None)
        else:
            other = other[order] if field.name == "membership" and order is not None else other
            assert mine.dtype == other.dtype
            assert np.array_equal(mine, other)
    return True


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_round_trip_is_exact(tmp_path, levels, symmetric):
    content = make_content(levels=levels, symmetric=symmetric)
    digest = write_shard(tmp_path / "a.safetensors", content)
    shard, graph = Shard(tmp_path / "a.safetensors"), content.graph
    assert digest.bytes == (tmp_path / "a.safetensors").stat().st_size
    order = np.array([content.row.tolist().index(row) for row in shard.arrays["row"]])
    assert sorted(order) == list(range(N))
    read = shard.graph
    assert (read.slice_id, read.unit, read.spacing) == ("täst", "um", 0.1 + 0.2)
    assert np.array_equal(read.centre, graph.centre)
    for name in ("x", "pos"):
        assert getattr(read, name).dtype == getattr(graph, name).dtype
        assert np.array_equal(getattr(read, name), getattr(graph, name)[order])
    place = np.argsort(order)
    coo = graph.near.tocoo()
    wanted = {(place[i], place[j]): length for i, j, length in zip(coo.row, coo.col, coo.data, strict=True)}
    rows = np.repeat(np.arange(N), np.diff(read.near.indptr))
    assert {(i, j): d for i, j, d in zip(rows, read.near.indices, read.near.data, strict=True)} == wanted
    assert 0.0 in wanted.values()
    assert read.near.dtype == np.float64
    assert all(np.all(np.diff(read.near[i].indices) > 0) for i in range(N))
    assert shard.metadata["symmetric"] == symmetric == is_symmetric(read.near)
    assert equal_virtual(read.virtual, graph.virtual, order)
    assert shard.names() == [content.names[i] for i in order]
    assert shard.names([3, 1]) == [content.names[order[i]] for i in (3, 1)]
    assert np.array_equal(shard.arrays["label"], content.labels[order])
    assert list(shard.categories.items()) == list(content.categories.items())
    ptr, gene, count = shard.counts
    dense = np.zeros((N, G), dtype=np.int64)
    dense[np.repeat(np.arange(N), np.diff(ptr)), gene] = count
    assert np.array_equal(dense, content.counts.toarray()[order])
    assert np.array_equal(shard.arrays["measured"], content.measured)


def test_parts_are_blocks_of_the_file(tmp_path):
    content = make_content()
    write_shard(tmp_path / "a.safetensors", content)
    shard = Shard(tmp_path / "a.safetensors")
    of_row = dict(zip(content.row.tolist(), content.membership.tolist(), strict=True))
    parts = [{of_row[row] for row in shard.arrays["row"][slice(*shard.bounds(p))].tolist()} for p in range(5)]
    assert sorted(part for (part,) in parts) == list(range(5))
    assert shard.bounds(0)[0] == 0
    assert shard.bounds(4)[1] == N
    assert shard.parts_of(np.array([0, N - 1])).tolist() == [0, 4]


@pytest.mark.parametrize(("largest", "dtype"), [(65535, np.uint16), (65536, np.uint32), (2**31 - 1, np.uint32)])
def test_large_counts_are_not_clipped(tmp_path, largest, dtype):
    write_shard(tmp_path / "a.safetensors", make_content(largest=largest))
    value = Shard(tmp_path / "a.safetensors").counts[2]
    assert value.dtype == dtype
    assert value.max() == largest


def test_bytes_are_those_of_the_content(tmp_path):
    first = write_shard(tmp_path / "a.safetensors", make_content())
    assert write_shard(tmp_path / "b.safetensors", make_content()) == first
    assert write_shard(tmp_path / "b.safetensors", make_content(seed=1)) != first


def test_others_can_read_it(tmp_path):
    write_shard(tmp_path / "a.safetensors", make_content())
    arrays = load_file(tmp_path / "a.safetensors")
    assert {name: array.tolist() for name, array in arrays.items()} == {
        name: array.tolist() for name, array in Shard(tmp_path / "a.safetensors").arrays.items()
    }


def test_arrays_are_aligned_and_read_only(tmp_path):
    write_shard(tmp_path / "a.safetensors", make_content())
    for array in Shard(tmp_path / "a.safetensors").arrays.values():
        assert array.flags.aligned
        assert not array.flags.writeable


def read_all(path):
    shard = Shard(path)
    for part in range(shard.num_parts):
        shard.verify(part)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "a.safetensors"
    write_shard(path, make_content(levels=2))
    read_all(path)
    return path, path.read_bytes()


@given(data=st.data())
def test_any_changed_byte_is_found(written, data):
    path, content = written
    at = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("b.safetensors")
    damaged.write_bytes(changed)
    with pytest.raises(StoreError, match=r"b\.safetensors"):
        read_all(damaged)


def test_every_64th_byte(written):
    path, content = written
    damaged = path.with_name("c.safetensors")
    for at in range(0, len(content), 64):
        damaged.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(StoreError):
            read_all(damaged)


@pytest.mark.parametrize("left", [0, 7, 8, 100, -1])
def test_truncation_is_named(written, left):
    path, content = written
    short = path.with_name("short.safetensors")
    short.write_bytes(content[:left])
    with pytest.raises(
        StoreError, match=r"short\.safetensors.*(truncated|damaged).* delete it and run 'stgraph corpus"
    ):
        Shard(short)


def test_additions_and_absence_are_named(written):
    path, content = written
    longer = path.with_name("longer.safetensors")
    longer.write_bytes(content + b"x")
    with pytest.raises(StoreError, match="something was added"):
        Shard(longer)
    with pytest.raises(StoreError, match="No such file"):
        Shard(path.with_name("nowhere.safetensors"))


def forged(path, header):
    """A file whose header is sound by its checksum, whatever it tells."""
    text = json.dumps({"__metadata__": {"header_crc32": "0" * 8, "stgraph": "{}"}} | header, separators=(",", ":"))
    raw = text.encode()
    raw = raw.replace(b"0" * 8, b"%08x" % zlib.crc32(raw), 1)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(64))
    return path


HOSTILE = [
    {"a": {"dtype": "F64", "shape": [2**60], "data_offsets": [0, 2**63]}},
    {"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 64]}},
    {"a": {"dtype": "F64", "shape": [-8], "data_offsets": [0, -64]}},
    {"a": {"dtype": "F64", "shape": [8.0], "data_offsets": [0, 64]}},
    {"a": {"dtype": "F64", "shape": [True], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F64", "shape": [4], "data_offsets": [32, 64]}},
    {"a": {"dtype": "O", "shape": [8], "data_offsets": [0, 64]}},
    {"a": {"dtype": "U8", "shape": [1] * 70, "data_offsets": [0, 1]}},
    {f"{i}": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]} for i in range(2)},
    {"a": [1]},
    {"a": 7},
]


@pytest.mark.parametrize("header", HOSTILE)
def test_hostile_headers_are_refused(tmp_path, header):
    with pytest.raises(StoreError, match="hostile"):
        map_arrays(forged(tmp_path / "hostile.safetensors", header))


def test_absurd_header_length_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    for length in (2**63, 2**30, 0):
        path.write_bytes(struct.pack("<Q", length) + b'{"__metadata__":{"header_crc32":"' + bytes(100))
        with pytest.raises(StoreError, match="damaged at its beginning"):
            map_arrays(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("near.index", N),
        ("near.index", -1),
        ("count.gene", G),
        ("virtual.0.membership", 6),
        ("virtual.0.membership", -1),
        ("label", 2),
        ("near.indptr", 2**31 - 1),
        ("near.indptr", -5),
        ("name.indptr", 2**40),
    ],
)
def test_what_points_out_of_the_shard_is_refused(tmp_path, monkeypatch, name, value):
    """As a writer that lies would make it, checksums and all."""

    def lie(path, arrays, metadata):
        array = arrays[name] = arrays[name].copy()
        array[1, 0 if array.ndim == 2 else ...] = value
        for part in range(5):
            arrays["part.crc"][part] = shards.part_crc(arrays, *arrays["part.ptr"][part : part + 2])
        return write_arrays(path, arrays, metadata | {"small_crc": shards.small_crc(arrays)})

    monkeypatch.setattr(writing, "write_arrays", lie)
    write_shard(tmp_path / "a.safetensors", make_content())
    with pytest.raises(StoreError, match="part 0 points to what is not there"):
        read_all(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("measured", 1, 0, "measured genes in no order"),
        ("virtual.1.membership", 0, 2, "members of virtual cells that are not there"),
        ("part.ptr", 0, 1, "parts that do not cover its cells"),
        ("part.ptr", -1, N - 1, "parts that do not cover its cells"),
        ("part.ptr", 2, 0, "parts that do not cover its cells"),
        ("count.indptr", 0, 1, "'count.indptr' does not cover its values"),
        ("near.indptr", -1, 7, "'near.indptr' does not cover its values"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, monkeypatch, name, at, value, message):
    def lie(path, arrays, metadata):
        arrays[name] = arrays[name].copy()
        arrays[name][at] = value
        return write_arrays(path, arrays, metadata | {"small_crc": shards.small_crc(arrays)})

    monkeypatch.setattr(writing, "write_arrays", lie)
    write_shard(tmp_path / "a.safetensors", make_content(levels=2))
    with pytest.raises(StoreError, match=rf"does not fit together \({message}\)"):
        Shard(tmp_path / "a.safetensors")


def test_other_versions_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("stgraph.data.writing.SHARD_VERSION", 99)
    write_shard(tmp_path / "a.safetensors", make_content())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="shard version 99, and this stgraph reads version 1"):
        Shard(tmp_path / "a.safetensors")


def test_empty_arrays(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"x": np.zeros((0, 3)), "y": np.arange(2, dtype=np.uint16)}, {})
    arrays, _ = map_arrays(tmp_path / "a.safetensors")
    assert arrays["x"].shape == (0, 3)
    assert arrays["y"].tolist() == [0, 1]
