import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.data import making
from stgraph.data.corpus import build_corpus
from stgraph.data.documents import fingerprint, read_document, write_document
from stgraph.data.jobs import processes
from stgraph.data.manifest import Manifest, load_encoder
from stgraph.data.shards import Shard
from stgraph.data.verify import verify_corpus
from stgraph.errors import InputError, StgraphWarning, StoreError
from stgraph.graph.builders import KNN
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.encoder import LogPCA

SMALL = {"builder": KNN(5), "partitioner": CoordinateBisection(30), "virtual_cells": None}


def write_slice(path, seed=0, *, n_genes=50, n_cells=80, edit=None):
    adata = stgraph.synthetic_tissue(n_cells=n_cells, n_genes=n_genes, random_state=seed)[0]
    del adata.obs["slice_id"]
    if edit is not None:
        adata = edit(adata) or adata
    path.parent.mkdir(exist_ok=True, parents=True)
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    return [write_slice(folder / f"s{i}.h5ad", i) for i in range(3)]


@pytest.fixture
def files(originals, tmp_path):
    """Copies that a test may change."""
    (tmp_path / "in").mkdir()
    return [Path(shutil.copy2(file, tmp_path / "in")) for file in originals]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "corpus"


@pytest.fixture
def build(out):
    return lambda files, **options: build_corpus(files, options.pop("out", out), **(SMALL | options))


def contents(folder):
    """Every file by name, without when and where it was made."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shards(folder):
    return {p.stem: (p.stat().st_mtime_ns, p.read_bytes()) for p in (folder / "shards").iterdir()}


def check_cells(manifest, out):
    """Every cell of every file once, with its name, its counts and its features."""
    encoder = load_encoder(out)
    for record in manifest.slices:
        adata = stgraph.read(record.source.path)
        shard = Shard(out / "shards" / record.shard)
        row = shard.arrays["row"]
        assert sorted(row) == list(range(adata.n_obs))
        assert shard.names() == adata.obs_names[row].tolist()
        ptr, gene, count = shard.counts
        dense = sp.csr_matrix((count, gene, ptr), shape=(len(row), len(manifest.genes))).toarray()
        number = pd.Index(manifest.genes).get_indexer(adata.var_names)
        assert np.array_equal(dense[:, number], adata.X[row].toarray())
        assert dense.sum() == adata.X.sum()
        assert shard.arrays["measured"].tolist() == sorted(number)
        if encoder is not None:
            assert np.array_equal(shard.graph.x, encoder.transform(adata)[row])


def test_a_corpus_holds_every_cell_once(files, build, out):
    manifest = build(files, obs_columns=["domain", "cell_type"])
    assert [record.slice_id for record in manifest.slices] == ["s0", "s1", "s2"]
    assert (manifest.num_cells, manifest.num_parts) == (240, 9)
    assert manifest.num_bytes == sum(p.stat().st_size for p in (out / "shards").iterdir())
    assert manifest.genes == sorted(manifest.genes)
    check_cells(manifest, out)
    assert verify_corpus(out) == []
    assert Manifest.load(out) == manifest
    assert not list(out.rglob(".*"))


def threads():
    return ThreadPoolExecutor(3)


def dask():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.Client(n_workers=1, processes=False, dashboard_address=":0")
    return cluster.get_executor()


@pytest.mark.parametrize("executor", [threads, lambda: processes(2), dask])
def test_any_executor_gives_the_same(files, build, out, tmp_path, executor):
    options = {"virtual_cells": stgraph.graph.virtual_cells.JointLeiden()}
    build(files, **options)
    with executor() as pool:
        build(files, out=tmp_path / "other", executor=pool, **options)
        assert verify_corpus(tmp_path / "other", pool) == []
    assert contents(tmp_path / "other") == contents(out)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(originals, build, out, tmp_path, monkeypatch, after):
    """Steps are the files that appear. What a killed process leaves stays: it cleans nothing."""
    build(originals[:2], out=tmp_path / "uninterrupted")
    uninterrupted = contents(tmp_path / "uninterrupted")
    move, unlink = Path.replace, Path.unlink
    tried = 0
    while True:
        tried += 1
        shutil.rmtree(out, ignore_errors=True)
        made = []

        def stop(self, target, made=made, last=tried):
            made.append(target)
            if after or len(made) < last:
                move(self, target)
            if len(made) == last:
                raise Killed

        def clean(self, missing_ok=False, made=made, last=tried):
            if len(made) < last:
                unlink(self, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop)
            patch.setattr(Path, "unlink", clean)
            try:
                build(originals[:2])
                break
            except Killed:
                assert after or list(out.rglob(".*.tmp*"))
        build(originals[:2])
        assert contents(out) == uninterrupted
    assert tried == len(uninterrupted) + 1
    assert contents(out) == uninterrupted


def test_nothing_is_made_twice(files, build, out):
    build(files)
    before = shards(out)
    manifest = build(files)
    assert shards(out) == before
    assert verify_corpus(out) == []
    check_cells(manifest, out)


def test_only_new_files_are_built(files, build, out):
    first = build(files[:2])
    before = shards(out)
    new = write_slice(files[0].with_name("t.h5ad"), 9, edit=rename)
    with pytest.warns(StgraphWarning, match="t lacks 1 of the 50 genes"):
        second = build([*files, new])
    after = shards(out)
    assert {name: after[name] for name in before} == before
    assert sorted(after) == ["s0", "s1", "s2", "t"]
    # Numbers of genes never change; new ones stand behind.
    assert second.genes == [*first.genes, "AAA-new"]
    with pytest.warns(StgraphWarning, match="t lacks 1 of the 50 genes"):
        check_cells(second, out)
    assert verify_corpus(out) == []


def rename(adata):
    adata.var_names = ["AAA-new", *adata.var_names[1:]]
    return adata


def test_slices_of_files_not_given_stay(files, build, out):
    build(files[:2])
    with pytest.warns(StgraphWarning, match="2 slices of files that are not given now stay in the corpus: s0, s1"):
        manifest = build(files[2:])
    assert [record.slice_id for record in manifest.slices] == ["s0", "s1", "s2"]
    assert verify_corpus(out) == []


def test_moved_and_touched_files_are_the_same(files, build, out, tmp_path):
    build(files)
    before = shards(out)
    moved = [file.rename(tmp_path / file.name) for file in files]
    os.utime(moved[0])
    manifest = build(moved)
    assert shards(out) == before
    assert [record.source.path for record in manifest.slices] == [str(path) for path in moved]
    assert build(moved) == manifest


def test_renamed_files_are_the_same(files, build, out):
    """Cells of a file are never there twice, whatever it is called."""
    build(files)
    before = shards(out)
    files[1] = files[1].rename(files[1].with_name("other.h5ad"))
    manifest = build(files)
    assert shards(out) == before
    assert [(r.slice_id, Path(r.source.path).stem) for r in manifest.slices] == [
        ("s0", "s0"),
        ("s1", "other"),
        ("s2", "s2"),
    ]
    assert verify_corpus(out) == []
    assert build(files) == manifest


def test_files_that_are_equal_stay_two(tmp_path, build, out):
    files = [write_slice(tmp_path / folder / "x.h5ad", 1) for folder in "ab"]
    build(files)
    moved = [
        Path(shutil.move(file.parent, tmp_path / folder)) / "x.h5ad" for file, folder in zip(files, "pq", strict=True)
    ]
    manifest = build(moved)
    assert [(r.slice_id, r.source.path) for r in manifest.slices] == [("a_x", str(moved[0])), ("b_x", str(moved[1]))]
    assert verify_corpus(out) == []


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_file_in_the_place_of_another(files, build, out, name):
    """Its slice goes with it, and that of the other is named as lost."""
    there = files[0].with_name(f"{name}.h5ad")
    files[0].rename(there)
    build([there, files[1]])
    files[1].replace(there)
    with pytest.raises(InputError, match=rf"do not hold them: {name}\. Give files"):
        build([there])
    (out / "records" / f"{name}.json").unlink()
    manifest = build([there])
    assert [record.slice_id for record in manifest.slices] == ["s1"]
    assert verify_corpus(out) == []


def test_sections_that_went_are_named(tmp_path, build, out):
    file = write_slice(tmp_path / "both.h5ad", edit=two_sections)
    build([file], slice_key="part")
    write_slice(file, edit=lambda a: a.obs.insert(0, "part", "all"))
    with pytest.raises(InputError, match="out of date, and the files given now do not hold them: even, odd"):
        build([file], slice_key="part")


def test_a_changed_file_is_built_again(files, build, out):
    build(files)
    before = shards(out)
    write_slice(files[1], 77)
    manifest = build(files)
    after = shards(out)
    assert {name for name in before if after[name] != before[name]} == {"s1"}
    check_cells(manifest, out)
    assert verify_corpus(out) == []


def test_no_manifest_while_a_slice_it_lists_is_made_again(files, build, out, monkeypatch):
    build(files)
    write_slice(files[1], 77)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(making, "write_shard", Mock(side_effect=Killed))
        build(files)
    with pytest.raises(StoreError, match="is unfinished"):
        Manifest.load(out)


def test_a_file_that_changes_while_it_is_read(files, build, monkeypatch):
    read = making.read

    def slowly(path, **options):
        os.utime(path)
        return read(path, **options)

    monkeypatch.setattr(making, "read", slowly)
    with pytest.raises(InputError, match=r"s0\.h5ad': it changed while it was read: run again"):
        build(files[:1])


def test_um_per_unit_is_per_file(files, build, out):
    for file in files:
        adata = ad.read_h5ad(file)
        del adata.uns["stgraph"]
        adata.write_h5ad(file)
    build(files, um_per_unit={"s0": 0.5, "s1": 1.0, "s2": 1.0})
    before = shards(out)
    assert Shard(out / "shards" / "s0.safetensors").graph.spacing < 10
    build(files, um_per_unit={"s0": 0.7, "s1": 1.0, "s2": 1.0})
    assert {name for name, content in shards(out).items() if content != before[name]} == {"s0"}


def test_a_missing_shard_is_made_again(files, build, out):
    build(files)
    before = contents(out)
    (out / "shards" / "s1.safetensors").unlink()
    assert "'stgraph corpus build'" in verify_corpus(out)[0]
    build(files)
    assert contents(out) == before


def test_a_lost_slice_is_named(files, build, out):
    build(files)
    (out / "shards" / "s1.safetensors").unlink()
    with pytest.raises(InputError, match="the files given now do not hold them: s1"):
        build(files[:1])


def test_bad_files_lose_no_others(files, build, out):
    good = files[1].read_bytes()
    files[1].write_bytes(good[:3000])
    bad = write_slice(files[0].with_name("bad.h5ad"), 5, edit=lambda a: setattr(a, "X", a.X * 0.5))
    missing = files[0].with_name("missing.h5ad")
    with pytest.raises(InputError) as error:
        build([*files, bad, missing])
    text = str(error.value)
    assert "3 files or slices cannot be used, while 2 slices are built" in text
    for path, why in ((files[1], "not a readable h5ad"), (bad, "fractions"), (missing, "no such file")):
        assert any(str(path) in line and why in line for line in text.splitlines()), text
    with pytest.raises(StoreError, match="is unfinished: run 'stgraph corpus build' again"):
        Manifest.load(out)
    before = shards(out)
    files[1].write_bytes(good)
    manifest = build(files)
    assert {name: content for name, content in shards(out).items() if name in before} == before
    check_cells(manifest, out)


def test_other_settings_are_named(files, build, out):
    build(files)
    with pytest.raises(InputError, match=r"builder\.n_neighbors is 4, and was 5.*--overwrite"):
        build(files, builder=KNN(4))
    with pytest.raises(InputError, match=r"obs_columns is \['domain'\], and was \[\]"):
        build(files, obs_columns=["domain"])
    before = shards(out)
    build(files[:1], builder=KNN(4), overwrite=True)
    assert sorted(shards(out)) == ["s0"]
    assert shards(out)["s0"] != before["s0"]
    assert verify_corpus(out) == []


def test_names_are_told_apart_by_folder(tmp_path, build, out):
    files = [write_slice(tmp_path / folder / "data.h5ad", i) for i, folder in enumerate("ab")]
    manifest = build(files)
    assert [record.slice_id for record in manifest.slices] == ["a_data", "b_data"]
    before = shards(out)
    third = write_slice(tmp_path / "c" / "data.h5ad", 3)
    assert [record.slice_id for record in build([*files, third]).slices] == ["a_data", "b_data", "data"]
    assert {name: content for name, content in shards(out).items() if name in before} == before
    deeper = write_slice(tmp_path / "d" / "a" / "data.h5ad", 4)
    with pytest.raises(InputError, match="Two slices are called 'a_data'"):
        build([*files, deeper])


def test_the_same_file_twice(files, build, tmp_path):
    assert len(build([files[0], files[0]]).slices) == 1
    (tmp_path / "link.h5ad").symlink_to(files[0])
    with pytest.raises(InputError, match="are the same file"):
        build([files[0], tmp_path / "link.h5ad"])


def two_sections(adata):
    adata.obs["part"] = np.where(np.arange(adata.n_obs) % 2, "odd", "even")
    adata.obs["good"] = np.arange(adata.n_obs) % 5 > 0


def test_several_slices_in_a_file(tmp_path, build, out):
    file = write_slice(tmp_path / "both.h5ad", edit=two_sections)
    manifest = build([file], slice_key="part", keep="good")
    assert [(r.slice_id, r.num_cells) for r in manifest.slices] == [("even", 32), ("odd", 32)]
    odd = Shard(out / "shards" / "odd.safetensors")
    assert sorted(odd.arrays["row"]) == [i for i in range(80) if i % 2 and i % 5]
    assert odd.names() == [f"s0_cell{row:05d}" for row in odd.arrays["row"]]
    assert verify_corpus(out) == []
    (out / "shards" / "odd.safetensors").unlink()
    even = shards(out)["even"]
    assert build([file], slice_key="part", keep="good") == manifest
    assert shards(out)["even"] == even


def test_names_of_sections_must_differ(tmp_path, build):
    files = [write_slice(tmp_path / f"{i}.h5ad", i, edit=two_sections) for i in range(2)]
    with pytest.raises(InputError, match=r"Two slices are called 'even', of '.*0\.h5ad' and '.*1\.h5ad'"):
        build(files, slice_key="part")


def test_a_fixed_vocabulary(files, build, out):
    genes = [*stgraph.read(files[0]).var_names[:30][::-1], "unmeasured"]
    with pytest.warns(StgraphWarning, match="20 of its 50 genes are not in the given vocabulary"):
        manifest = build(files, genes=genes)
    assert manifest.genes == genes
    shard = Shard(out / "shards" / "s0.safetensors")
    assert shard.arrays["measured"].tolist() == list(range(30))
    assert len(shard.counts[1]) == stgraph.read(files[0])[:, genes[:30]].X.nnz
    with pytest.raises(InputError, match="genes is"):
        build(files, genes=genes[:-1])
    with pytest.raises(InputError, match="more than once"):
        build(files, genes=["a", "b", "a"])


def test_labels(tmp_path, build, out):
    def edit(adata):
        adata.obs["batch"] = pd.Categorical(["x"] * 40 + [None] * 40, categories=["unused", "x"])

    files = [write_slice(tmp_path / "a.h5ad", edit=edit), write_slice(tmp_path / "b.h5ad", 1)]
    with pytest.warns(StgraphWarning, match="b: obs has no column 'batch'"):
        manifest = build(files, obs_columns=["domain", "batch", "domain"])
    assert manifest.slices[0].categories["batch"] == ["x"]
    shard = Shard(out / "shards" / "a.safetensors")
    assert np.array_equal(shard.arrays["label"][:, 1], np.where(shard.arrays["row"] < 40, 0, -1))
    domain = stgraph.read(files[0]).obs["domain"].astype(str).to_numpy()
    texts = np.array(shard.categories["domain"])
    assert np.array_equal(texts[shard.arrays["label"][:, 0]], domain[shard.arrays["row"]])


def test_features_of_the_files(tmp_path, build, out):
    def edit(width):
        return lambda a: a.obsm.__setitem__("X_own", np.arange(80.0 * width).reshape(80, width))

    files = [write_slice(tmp_path / f"{i}.h5ad", i, edit=edit(w)) for i, w in enumerate((4, 4, 3))]
    manifest = build(files[:2], use_rep="X_own")
    assert [record.channels for record in manifest.slices] == [4, 4]
    shard = Shard(out / "shards" / "0.safetensors")
    assert np.array_equal(shard.graph.x[:, 0], shard.arrays["row"] * 4)
    assert load_encoder(out) is None
    with pytest.raises(InputError, match="has 3 channels, but those of the corpus have 4"):
        build(files, use_rep="X_own")
    with pytest.raises(InputError, match=r"no features in obsm\['X_other'\]; obsm has: X_own, spatial"):
        build(files, use_rep="X_other", out=tmp_path / "other")
    with pytest.raises(InputError, match="not from both"):
        build(files, use_rep="X_own", encoder=LogPCA())


def test_an_encoder_of_the_users(files, build, out):
    encoder = LogPCA(n_components=4)
    assert build(files, encoder=encoder).slices[0].channels == 4
    assert not encoder.genes  # not changed
    build(files, encoder=encoder)
    fitted = LogPCA(n_components=4).fit([stgraph.read(files[2])])
    build(files, encoder=fitted, overwrite=True)
    adata, shard = stgraph.read(files[0]), Shard(out / "shards" / "s0.safetensors")
    assert np.array_equal(shard.graph.x, fitted.transform(adata)[shard.arrays["row"]])


def test_the_encoder_is_fitted_to_a_sample(files, build, out):
    build(files, sample_cells=30)
    small = load_encoder(out).state()["components"]
    build(files, sample_cells=30, random_state=1, overwrite=True)
    assert not np.array_equal(load_encoder(out).state()["components"], small)
    build(files[::-1], sample_cells=30, overwrite=True)
    assert np.array_equal(load_encoder(out).state()["components"], small)


def test_a_slice_is_left_out_at_the_end(files, build, out, monkeypatch):
    """Until then the manifest holds what it tells."""
    build(files)
    (out / "records" / "s1.json").unlink()
    files = [files[0], files[2]]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Manifest, "save", Mock(side_effect=Killed))
        build(files)
    assert all((out / "shards" / record.shard).is_file() for record in Manifest.load(out).slices)
    assert len(build(files).slices) == 2
    assert sorted(shards(out)) == ["s0", "s2"]
    assert verify_corpus(out) == []


def test_slices_without_shared_genes_are_told_what_to_do(tmp_path, build):
    def edit(adata):
        adata.var_names = [f"other{i}" for i in range(adata.n_vars)]

    files = [write_slice(tmp_path / "a.h5ad"), write_slice(tmp_path / "b.h5ad", edit=edit)]
    with pytest.raises(InputError, match=r"share only 0 genes.*--rep KEY"):
        build(files)


def test_two_builds_at_once_are_refused(files, build, out):
    out.mkdir()
    code = (
        f"import fcntl, json; f = open({str(out / '.lock')!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "json.dump({'pid': 5, 'host': 'here'}, f); f.flush(); print('locked', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match=r"written by another process \(number 5 on here\)"):
            build(files)
        other.kill()
        other.wait()
    assert len(build(files).slices) == 3  # the lock went with its holder, though its file stayed


@pytest.mark.parametrize("name", ["notes.txt", "shards", "config.json"])
def test_other_folders_are_left_alone(files, build, out, name):
    out.mkdir()
    (out / name).write_text("{}")
    with pytest.raises(InputError, match=f"holds '{name}' and is no corpus"):
        build(files, overwrite=True)
    assert (out / name).read_text() == "{}"


def test_bad_arguments(files, build, tmp_path):
    with pytest.raises(InputError, match="No slice file"):
        build([])
    with pytest.raises(InputError, match="sample_cells"):
        build(files, sample_cells=0)
    with pytest.raises(InputError, match="is a file, but a corpus is a folder"):
        build(files, out=files[0])
    with pytest.raises(InputError, match="lies in"):
        build(files, out=files[0].parent)


def edit_manifest(out, edit):
    content = read_document(out / "manifest.json")
    edit(content)
    write_document(out / "manifest.json", content)


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda out: (out / "shards" / "s1.safetensors").unlink(), r"s1\.safetensors' is missing"),
        (lambda out: (out / "shards" / "x.safetensors").write_bytes(b""), "x.safetensors' is not in the manifest"),
        (lambda out: flip(out / "shards" / "s1.safetensors"), r"s1\.safetensors' is damaged: part \d has changed"),
        (lambda out: flip(out / "shards" / "s1.safetensors", 300), "header is damaged"),
        (lambda out: os.truncate(out / "shards" / "s2.safetensors", 5000), "has 5000 bytes, not the"),
        (lambda out: shutil.copy(out / "shards/s0.safetensors", out / "shards/s1.safetensors"), "s1.safetensors"),
        (lambda out: flip(out / "encoder" / "state.safetensors"), "state.safetensors' has changed"),
        (lambda out: (out / "encoder" / "config.json").unlink(), "config.json' is missing"),
        (lambda out: flip(out / "records" / "s1.json", 20), r"s1\.json' is damaged"),
        (lambda out: (out / "config.json").unlink(), r"config\.json' is missing"),
        (lambda out: flip(out / "config.json", 20), r"config\.json' has changed"),
    ],
)
def test_verify_finds(files, build, out, damage, problem):
    build(files)
    assert verify_corpus(out) == []
    damage(out)
    assert any(pd.Series(verify_corpus(out)).str.contains(problem)), verify_corpus(out)


@pytest.mark.parametrize("name", ["encoder/state.safetensors", "encoder/config.json", "config.json", "genes.json"])
@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_a_build_mends_what_is_damaged(files, build, out, name, damage):
    build(files)
    before = contents(out)
    damage(out / name)
    build(files)
    assert contents(out) == before
    assert verify_corpus(out) == []


def test_a_lost_encoder_is_not_replaced_by_another(files, build, out):
    """Slices encoded alike, or none: one file alone would give another encoder."""
    build(files)
    (out / "encoder" / "state.safetensors").unlink()
    with pytest.raises(InputError, match="do not hold them: s0, s1"):
        build(files[2:])


def test_the_encoder_of_somebody_else_is_not_run(files, build, out):
    build(files)
    before = contents(out)
    told = read_document(out / "encoder" / "config.json")
    write_document(out / "encoder" / "config.json", told | {"encoder": {"_target_": "os.system", "command": "x"}})
    build(files)
    assert contents(out) == before


def test_a_shard_of_another_build_is_made_again(files, build, out, tmp_path):
    build(files)
    before = contents(out)
    build(files, out=tmp_path / "other", encoder=LogPCA(random_state=7), sample_cells=30)
    name = Path("shards") / "s1.safetensors"
    assert (tmp_path / "other" / name).stat().st_size == len(before[str(name)])
    shutil.copy(tmp_path / "other" / name, out / name)
    assert "is not the one that was written" in verify_corpus(out)[0]
    build(files)
    assert contents(out) == before


def test_a_killed_worker_is_said_once(files, build):
    class Broken(ThreadPoolExecutor):
        def submit(self, *_):
            raise BrokenExecutor

    class Breaks(ThreadPoolExecutor):
        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenExecutor())
            return future

    for executor in (Broken(), Breaks()):
        with pytest.raises(InputError, match=r"^A worker was killed.*run again with fewer workers\.$"):
            build(files, executor=executor)


def test_verify_counts_cells(tmp_path, build, out, monkeypatch):
    file = write_slice(tmp_path / "both.h5ad", edit=two_sections)
    build([file], slice_key="part")

    def lose(content):
        for record in content["slices"]:
            record["source"]["num_rows"] = 90

    edit_manifest(out, lose)
    assert any("10 cells of" in problem and "are missing" in problem for problem in verify_corpus(out))
    # A writer that takes the cells of the one section for those of the other
    right = making.write_shard
    monkeypatch.setattr(making, "write_shard", lambda path, c: right(path, replace(c, row=c.row // 2 * 2)))
    build([file], slice_key="part", overwrite=True)
    assert any("40 cells of" in problem and "more than once" in problem for problem in verify_corpus(out))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: replace(c, row=c.row + 50), r"There are cells of rows that '.*s0\.h5ad' does not have"),
        (lambda c: c.graph.near.data.__setitem__(0, np.nan) or c, r"s0\.safetensors' has edges without a length"),
        (lambda c: c.graph.near.data.__setitem__(0, -1) or c, r"s0\.safetensors' has edges without a length"),
    ],
)
def test_verify_finds_what_a_bad_writer_wrote(files, build, out, monkeypatch, edit, problem):
    right = making.write_shard
    monkeypatch.setattr(making, "write_shard", lambda path, content: right(path, edit(content)))
    build(files[:1])
    assert any(pd.Series(verify_corpus(out)).str.contains(problem)), verify_corpus(out)


def test_verify_finds_what_the_manifest_has_wrong(files, build, out):
    genes = build(files[:1], builder=KNN(5, symmetric=False)).genes

    def lie(content):
        content["slices"][0]["symmetric"] = True
        content["genes"] = {"count": 10, "sha256": fingerprint(genes[:10])}

    edit_manifest(out, lie)
    text = "\n".join(verify_corpus(out))
    for problem in ("genes beyond the vocabulary", "edges without their reverse", "does not agree with the manifest"):
        assert problem in text


def test_a_damaged_manifest_is_named(files, build, out):
    build(files)
    whole = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(whole.replace('"num_cells": 80', '"num_cells": 81', 1))
    with pytest.raises(StoreError, match=r"manifest\.json' is damaged, it has changed.*: run 'stgraph corpus build'"):
        Manifest.load(out)
    (out / "manifest.json").write_text(whole[:-20])
    with pytest.raises(StoreError, match=r"manifest\.json' is damaged"):
        verify_corpus(out)
    build(files)
    assert json.loads(whole) == json.loads((out / "manifest.json").read_text())
    write_document(out / "genes.json", {"genes": ["x"]})
    with pytest.raises(StoreError, match="not the vocabulary"):
        Manifest.load(out)
    with pytest.raises(StoreError, match="There is no corpus"):
        verify_corpus(out / "nowhere")
    with pytest.raises(StoreError, match="is not a corpus"):
        verify_corpus(files[0].parent)


def test_a_newer_version_is_named(files, build, out):
    build(files[:1])
    for name in ("manifest.json", "config.json"):
        write_document(out / name, read_document(out / name) | {"corpus_version": 2})
    with pytest.raises(StoreError, match=r"corpus version 2 .* reads version 1: use the stgraph that wrote it"):
        Manifest.load(out)
    with pytest.raises(InputError, match=r"has version 2, and this stgraph writes version 1.*--overwrite"):
        build(files[:1])


def test_a_manifest_leads_nowhere_else(files, build, out):
    build(files)
    edit_manifest(out, lambda content: content["slices"][0].update(slice_id="../../elsewhere"))
    with pytest.raises(StoreError, match=r"manifest\.json' cannot be used \(a slice called '\.\./"):
        Manifest.load(out)


def test_torch_is_not_imported(originals, tmp_path):
    code = (
        "import sys; from stgraph.data.corpus import build_corpus; from stgraph.data.verify import verify_corpus\n"
        f"build_corpus([{str(originals[0])!r}], {str(tmp_path / 'c')!r}); verify_corpus({str(tmp_path / 'c')!r})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
