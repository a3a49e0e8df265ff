import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest

import stgraph
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.tasks.hub import cache_folder, download_model, is_model_id

COMMIT = "b" * 40


@pytest.fixture
def model(fitted, hub, tmp_path):
    """The hub has a model."""
    fitted.pretrained.save_pretrained(tmp_path / "published", name="lab/model", licence="mit")
    hub.publish(tmp_path / "published")
    shutil.rmtree(tmp_path / "published")
    return hub


@pytest.fixture
def small(hub):
    """The hub has files, of no model."""
    hub.files = {"config.json": b"{}", "README.md": b"# small", "model.safetensors": bytes(5000)}
    hub.large = {"model.safetensors"}
    return hub


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lab/model", "a/b", "my-lab/model_v1.5", "lab/" + "m" * 96])
def test_ids(name):
    assert is_model_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "./lab/model",
        "/lab/model",
        "~/model",
        "lab/model/",
        "a/b/c",
        "../model",
        "lab/..",
        "lab/.model",
        "lab\\model",
        "lab/mo del",
        "lab/model?x=1",
        "lab/model\n",
        "lab/a--b",
        "lab/a..b",
        "lab/model.git",
        "läb/model",
        "lab/" + "m" * 97,
        "C:/model",
        "http://lab/model",
        "",
        None,
        Path("lab/model"),
    ],
)
def test_what_is_not_an_id(name):
    assert not is_model_id(name)
    with pytest.raises(InputError, match="is not an id on the hub"):
        download_model(name)


@pytest.mark.parametrize("revision", ["", "../main", "a/../b", "a b", "main\n", "-x", "/main", "main?x"])
def test_what_is_not_a_revision(hub, revision):
    with pytest.raises(InputError, match="is not a revision"):
        download_model("lab/model", revision=revision)
    assert hub.asked == []


def test_a_folder_that_is_there_comes_first(fitted, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted.pretrained.save("lab/model")
    assert stgraph.from_pretrained("lab/model").info["slices"] == ["synthetic_0", "synthetic_1"]
    shutil.rmtree("lab")
    for path in ("./lab/model", Path("lab/model"), tmp_path / "lab" / "model"):
        with pytest.raises(CheckpointError, match="There is no model directory"):
            stgraph.from_pretrained(path)
    assert hub.asked == []


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("STGRAPH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path.home() / ".cache" / "stgraph"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "stgraph"
    monkeypatch.setenv("STGRAPH_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("STGRAPH_CACHE")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "stgraph"


def test_a_folder_that_was_misspelt_is_not_asked_of_a_hub(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(CheckpointError, match=r"no folder 'runs/stofm', though there is 'runs': .* revision='main'"):
        stgraph.from_pretrained("runs/stofm")
    assert small.asked == []
    Path("lab").mkdir()
    with pytest.raises(CheckpointError):  # no model, but asked for
        stgraph.from_pretrained("lab/model", revision="main")
    assert small.asked != []


# fetching ---------------------------------------------------------------------------------------------------------


def test_a_model_by_its_id_gives_the_same_numbers(model, fitted, tissue):
    embedded = stgraph.embed(tissue, "lab/model")
    np.testing.assert_array_equal(embedded.obsm["X_stgraph"], fitted.adatas["synthetic_0"].obsm["X_stgraph"])
    asked = len(model.asked)
    assert asked == 1 + len(model.files)
    stgraph.from_pretrained("lab/model")
    assert model.paths()[asked:] == ["/api/models/lab/model/revision/main"]


def test_what_was_fetched_is_said_once(small, capsys):
    folder = download_model("lab/model")
    assert capsys.readouterr().err == f"fetched lab/model from {small.url}, commit {small.commit}\n"
    assert download_model("lab/model") == folder
    assert capsys.readouterr().err == ""


def test_another_commit_than_asked_for_is_refused(small, tmp_path):
    """As a hub may say that was tampered with, or a mirror that does not know commits."""
    listing = small.listing
    small.listing = lambda said: listing(said | {"sha": COMMIT})
    with pytest.raises(CheckpointError, match=f"gives commit {COMMIT} of 'lab/model', not {small.commit}"):
        download_model("lab/model", revision=small.commit)
    assert not list((tmp_path / "cache").rglob("config.json"))


def test_hubs_do_not_share_a_cache(small, serve, monkeypatch):
    first = download_model("lab/model", revision=small.commit)
    other = serve()
    other.files = {"config.json": b"{1}"}
    monkeypatch.setenv("HF_ENDPOINT", other.url)
    second = download_model("lab/model", revision=other.commit)
    assert first.name == second.name
    assert (first / "config.json").read_bytes() == b"{}"
    assert (second / "config.json").read_bytes() == b"{1}"


def test_an_older_torch_reads_no_pickles_of_strangers(small, monkeypatch):
    small.files["se2transformer.pth"] = b"no"
    monkeypatch.setattr("torch.__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=r"in se2transformer.pth, .* from 2.10 on, and this is 2.9.1.*: update"):
        stgraph.from_pretrained("lab/model")
    for version in ("2.10.0", "2.13.0+cu130"):
        monkeypatch.setattr("torch.__version__", version)
        with pytest.raises(CheckpointError) as caught:
            stgraph.from_pretrained("lab/model")
        assert "update torch" not in str(caught.value)
    del small.files["se2transformer.pth"]
    small.commit = COMMIT
    monkeypatch.setattr("torch.__version__", "2.5.0")
    with pytest.raises(CheckpointError) as caught:
        stgraph.from_pretrained("lab/model")
    assert "update torch" not in str(caught.value)


def test_a_token_that_others_could_read_is_not_sent(small, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr("stgraph.tasks.hub.may_be_told", lambda _: False)
    with pytest.warns(StgraphWarning, match="HF_TOKEN is not sent to http://127"):
        download_model("lab/model")


def test_only_what_a_model_directory_holds_is_fetched(small, tmp_path):
    others = ("modeling.py", "setup.py", "train.h5ad", "checkpoints/model.safetensors", ".gitattributes", "weights.pkl")
    small.files |= dict.fromkeys((*others, "cell_encoder/cell_bert/optimizer.bin"), b"no")
    released = {"pytorch_model.bin", "gene_list.tsv", "OS_scRNA_gene_index.19264.tsv", "se2transformer.pth"}
    released |= {"cell_encoder/cell_proj.bin", "cell_encoder/cell_bert/pytorch_model.bin"}
    small.files |= dict.fromkeys(released | {"gene_vocab/medians.tsv.gz", "genes.txt"}, b"yes")
    folder = download_model("lab/model")
    wanted = {"config.json", "README.md", "model.safetensors", "gene_vocab/medians.tsv.gz", "genes.txt"} | released
    assert files_below(folder) == wanted
    assert folder.is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize(
    "name",
    [
        "../config.json",
        "/etc/model.safetensors",
        "gene_vocab/../../../x.tsv",
        "cell_encoder/../../y.bin",
        "..\\model.safetensors",
        "C:model.safetensors",
        "./config.json",
        "a//b.safetensors",
        "model\n.safetensors",
    ],
)
def test_names_that_lead_out_of_the_cache(small, tmp_path, name):
    small.files[name] = b"evil"
    with pytest.raises(CheckpointError, match="may lead out of its folder: nothing was fetched"):
        download_model("lab/model")
    assert small.paths() == ["/api/models/lab/model/revision/main"]
    assert files_below(tmp_path) == set()


def test_changed_content_is_refused(small, tmp_path):
    stated = small.described()
    small.listing = lambda _: stated
    for name in ("README.md", "model.safetensors"):  # as a blob of git, and by SHA-256
        right = small.files[name]
        small.files[name] = right[:-1] + b"!"
        with pytest.raises(CheckpointError, match=rf"{name}' does not have the content that the hub says it has"):
            download_model("lab/model")
        small.files[name] = right
    assert (download_model("lab/model") / "README.md").read_bytes() == b"# small"


def test_an_interrupted_download_is_gone_on_with(small, tmp_path):
    """Between processes: the files that are there are not fetched again."""

    def stop(handler, content):
        handler.answer(200, content[:3000], length=len(content))

    def refuse(handler, _):
        handler.answer(410, b"")

    small.faults = [lambda handler, content: handler.answer_part(content)] * 2 + [stop, refuse]
    with pytest.raises(CheckpointError, match="HTTP 410"):
        download_model("lab/model")
    begun = len(small.asked)
    folder = download_model("lab/model")
    assert (folder / "model.safetensors").read_bytes() == bytes(5000)
    again = [(path.rsplit("/", 1)[1], headers.get("Range")) for path, headers in small.asked[begun:]]
    assert again == [("main", None), ("model.safetensors", "bytes=3000-")]


def test_a_kill_leaves_what_the_next_goes_on_with(small, monkeypatch):
    """In a process of its own, which ends in the middle of the second file, without a word."""
    code = (
        "import os\n"
        "from stgraph.tasks import hub, web\n"
        "whole = web.Web.file\n"
        "def file(self, url, path, expected, *, on_bytes):\n"
        "    if url.endswith('model.safetensors'):\n"
        "        path.write_bytes(bytes(700))\n"
        "        os._exit(9)\n"
        "    whole(self, url, path, expected, on_bytes=on_bytes)\n"
        "web.Web.file = file\n"
        "hub.download_model('lab/model')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ.copy()).returncode == 9
    with monkeypatch.context() as offline, pytest.raises(CheckpointError, match="in the cache"):
        offline.setenv("HF_HUB_OFFLINE", "1")
        download_model("lab/model", revision=small.commit)
    begun = len(small.asked)
    assert (download_model("lab/model") / "model.safetensors").read_bytes() == bytes(5000)
    assert [headers.get("Range") for _, headers in small.asked[begun:]] == [None, "bytes=700-"]


def test_a_file_lost_from_the_cache_is_fetched_again(small):
    folder = download_model("lab/model")
    (folder / "README.md").unlink()
    (folder / "model.safetensors").write_bytes(b"short")
    assert download_model("lab/model") == folder
    assert (folder / "README.md").read_bytes() == b"# small"
    assert (folder / "model.safetensors").read_bytes() == bytes(5000)


# revisions --------------------------------------------------------------------------------------------------------


def test_a_branch_moves_and_a_commit_does_not(small):
    first = download_model("lab/model")
    old, small.commit = small.commit, COMMIT
    small.files["README.md"] = b"# changed"
    second = download_model("lab/model")
    assert (first / "README.md").read_bytes() == b"# small"
    assert (second / "README.md").read_bytes() == b"# changed"
    asked = len(small.asked)
    assert download_model("lab/model", revision=old) == first
    assert download_model("lab/model", revision=COMMIT) == second
    assert len(small.asked) == asked, "a commit that is there is not asked for"


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
def test_tags_and_branches(small, revision):
    download_model("lab/model", revision=revision)
    assert small.paths()[0] == f"/api/models/lab/model/revision/{revision}"
    assert all(f"/resolve/{small.commit}/" in path for path in small.paths()[1:])


def test_revision_of_from_pretrained(model):
    pinned = stgraph.from_pretrained("lab/model", revision=model.commit)
    assert pinned.info["card"]["name"] == "lab/model"
    with pytest.raises(CheckpointError, match=r"that you may read at .* \(revision 'v9', HTTP 404\)"):
        stgraph.from_pretrained("lab/model", revision="v9")


# what goes wrong --------------------------------------------------------------------------------------------------


def one_sentence(error):
    text = str(error.value)
    return "\n" not in text and text.count(". ") == 0


def test_no_such_model(hub):
    with pytest.raises(CheckpointError, match=r"There is no folder 'lab/modle', and no model of that id") as error:
        stgraph.from_pretrained("lab/modle")
    assert "check the spelling, and set HF_TOKEN if the model is not public" in str(error.value)
    assert one_sentence(error)


def test_offline_with_an_empty_cache(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CheckpointError, match="There is no folder 'lab/model', and no model of that id") as error:
        stgraph.from_pretrained("lab/model")
    assert "go online once, or copy the folder of the model here and give its path" in str(error.value)
    assert one_sentence(error)


def test_offline_with_a_copy(small, monkeypatch):
    folder = download_model("lab/model")

    def nobody(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("stgraph.tasks.web._opener", lambda: SimpleNamespace(open=nobody))
    with pytest.warns(StgraphWarning, match=r"copy of 'main' in the cache \(commit a{12}\), for .*cannot be reached"):
        assert download_model("lab/model") == folder
    with pytest.raises(CheckpointError, match="revision 'v1'"):
        download_model("lab/model", revision="v1")
    (folder / "README.md").unlink()
    with pytest.raises(CheckpointError, match="go online once"):
        download_model("lab/model")


def test_told_to_be_offline_it_does_not_ask(small, monkeypatch):
    folder = download_model("lab/model")
    asked = len(small.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download_model("lab/model") == folder
    with pytest.raises(CheckpointError, match="while HF_HUB_OFFLINE is set: go online once"):
        download_model("lab/other")
    assert len(small.asked) == asked


def test_the_token_is_the_users(small, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    folder = download_model("lab/model")
    assert {headers.get("Authorization") for _, headers in small.asked} == {"Bearer hf_secret"}
    assert not any(b"hf_secret" in path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())


@pytest.mark.parametrize("endpoint", ["file:///etc", "ftp://host", "host"])
def test_endpoints_are_addresses(hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InputError, match="must be the address of a hub"):
        download_model("lab/model")


@pytest.mark.parametrize(
    "listing",
    [
        lambda _: [],
        lambda _: {"sha": "main", "siblings": []},
        lambda answer: answer | {"sha": "../../x"},
        lambda answer: {"sha": answer["sha"]},
        lambda answer: answer | {"siblings": [{"rfilename": "config.json"}]},
        lambda answer: answer | {"siblings": [{"rfilename": "config.json", "size": 2, "blobId": "../../x"}]},
        lambda answer: answer | {"siblings": [{"rfilename": "config.json", "size": -2, "blobId": "a" * 40}]},
    ],
)
def test_answers_that_are_not_those_of_a_hub(small, tmp_path, listing):
    small.listing = listing
    with pytest.raises(CheckpointError, match="its answer is not that of a hub"):
        download_model("lab/model")
    assert files_below(tmp_path) == set()


def test_a_repository_that_is_no_model(small):
    del small.files["config.json"]
    with pytest.raises(CheckpointError, match=r"is no model of stgraph: it has no config\.json"):
        download_model("lab/model")


def test_code_in_a_model_of_the_hub_is_not_run(model):
    config = json.loads(model.files["config.json"])
    config["parts"]["model"]["_target_"] = "elsewhere.Model"
    model.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(InputError, match="pass --trust elsewhere"):
        stgraph.from_pretrained("lab/model")


def test_who_comes_second_waits_and_finds_the_work_done(small, tmp_path, monkeypatch):
    """Another process holds the lock; when it lets go, the model is there."""
    home = tmp_path / "cache" / "models" / quote(small.url, safe="") / "lab--model"
    home.mkdir(parents=True)
    code = (
        "import sys, pathlib\n"
        "from stgraph.data.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        waited = []

        def wait(seconds):
            waited.append(seconds)
            other.communicate()

        monkeypatch.setattr("stgraph.tasks.hub.sleep", wait)
        assert (download_model("lab/model") / "README.md").is_file()
    assert waited == [1]
