"""Models by their id on the Hugging Face hub, in a cache on this machine.

The standard library is all it takes. Of a repository only the files of a model directory are fetched, none of them
code, each checked against the size and hash that the hub states, and into the cache only.
"""

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from stgraph._files import atomic_path
from stgraph.data.lock import locked
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.tasks.web import Fingerprint, Refused, Unreachable, Web, may_be_told

HUB = "https://huggingface.co"
"""The hub, unless the environment variable ``HF_ENDPOINT`` names another."""

FILES = (
    "README.md",
    "config.json",
    "genes.txt",
    "*.safetensors",
    "se2transformer.pth",
    "pytorch_model.bin",
    "gene_list.tsv",
    "gene_list.tsv.gz",
    "*gene*index*.tsv",
    "cell_encoder/cell_proj.bin",
    "cell_encoder/cell_bert/config.json",
    "cell_encoder/cell_bert/model.safetensors",
    "cell_encoder/cell_bert/pytorch_model.bin",
    "gene_vocab/*.tsv",
    "gene_vocab/*.tsv.gz",
)
"""What a model directory may hold, ours and the published ones of SToFM and AIDO.Tissue; nothing else is fetched."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"\w[\w./-]{0,249}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WAIT_FOR_ANOTHER = 600


def is_model_id(name: object) -> bool:
    """Whether a name has the form of an id on the hub, ``"organisation/model"``.

    A `Path` has not, nor what begins with ``./``, ``/`` or ``~`` or ends with ``/``.

    Examples
    --------
    >>> from stgraph.tasks.hub import is_model_id
    >>> [is_model_id(name) for name in ("lab/model", "./lab/model", "runs/2026/model", "model")]
    [True, False, False, False]
    """
    return (
        isinstance(name, str)
        and _ID.fullmatch(name) is not None
        and not any(part in name for part in ("..", "--"))
        and not name.endswith((".", "-", ".git"))
    )


def cache_folder() -> Path:
    """Where models of the hub are kept: ``STGRAPH_CACHE``, or ``stgraph`` in the user's folder of caches."""
    if own := os.environ.get("STGRAPH_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "stgraph"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stgraph"


def download_model(model_id: str, *, revision: str | None = None, web: Web | None = None) -> Path:
    """The folder of a model of the hub, fetched if it is not there yet.

    Parameters
    ----------
    model_id
        ``"organisation/model"``.
    revision
        Branch, tag or commit; None for ``main``. With the 40 digits of a commit the model can never change, and once
        it is there the hub is not asked again.
    web
        How to ask; by default with the token of ``HF_TOKEN``, if there is one.

    Returns
    -------
    Path
        A folder in `cache_folder`, complete, every file of the size and hash that the hub states. What was fetched, and
        of which commit, is said on standard error.

    Raises
    ------
    InputError
        If the id or revision has not the form of one, or ``HF_ENDPOINT`` is no address.
    CheckpointError
        If the hub cannot be reached and the model is not in the cache, the hub has no such model, or what it sends is
        not what it says, or is another commit than was asked for.

    Warns
    -----
    StgraphWarning
        If the hub cannot be reached, and an earlier copy of the same branch is taken; or a token is not sent, for the
        hub is not asked over https.

    Notes
    -----
    ``HF_HUB_OFFLINE=1`` keeps it from asking at all.
    """
    revision = "main" if revision is None else revision
    if not is_model_id(model_id):
        raise InputError(f"{model_id!r} is not an id on the hub, which has the form 'organisation/model'.")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision) or ".." in revision:
        raise InputError(f"{revision!r} is not a revision, which is a branch, tag or commit.")
    endpoint = _endpoint()
    # Another hub may have another model of this name.
    home = cache_folder() / "models" / quote(endpoint.removeprefix("https://"), safe="") / model_id.replace("/", "--")
    ref = home / "refs" / quote(revision, safe="")
    if _COMMIT.fullmatch(revision) and _is_whole(home, revision):
        return home / revision
    web = web or Web(token=os.environ.get("HF_TOKEN") or None)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return _kept(model_id, revision, home, ref, "HF_HUB_OFFLINE is set", warn=False)
    if web.token and not may_be_told(endpoint):
        warnings.warn(
            f"HF_TOKEN is not sent to {endpoint}, for others can read what goes there: use an address with https://.",
            StgraphWarning,
            stacklevel=3,
        )
    try:
        commit, files = _listing(web, endpoint, model_id, revision)
        with _alone(home):
            if not _is_whole(home, commit):
                _fetch(web, f"{endpoint}/{model_id}/resolve/{commit}", home, commit, files, model_id)
                Console(stderr=True).print(
                    f"fetched {model_id} from {endpoint}, commit {commit}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            with atomic_path(ref) as tmp:
                tmp.write_text(commit, encoding="utf-8")
    except Unreachable as error:
        return _kept(model_id, revision, home, ref, f"{endpoint} cannot be reached ({error})", warn=True)
    except Refused as error:
        if error.code not in (401, 403, 404):
            raise CheckpointError(f"{endpoint} does not give '{model_id}': {error}.") from error
        raise CheckpointError(
            f"There is no folder '{model_id}', and no model of that id that you may read at {endpoint} (revision "
            f"'{revision}', {error}): check the spelling, and set HF_TOKEN if the model is not public."
        ) from error
    return home / commit


def _endpoint() -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise InputError(f"HF_ENDPOINT is '{endpoint}', and must be the address of a hub, from 'https://' on.")
    return endpoint


def _listing(web: Web, endpoint: str, model_id: str, revision: str) -> tuple[str, dict[str, Fingerprint]]:
    """Commit of a revision, and the files of a model directory in it."""
    answer = web.json(f"{endpoint}/api/models/{model_id}/revision/{quote(revision, safe='')}?blobs=true")
    try:
        commit = str(answer["sha"])
        stated = {str(entry["rfilename"]): entry for entry in answer["siblings"]}
        if not _COMMIT.fullmatch(commit):
            raise ValueError(f"commit {commit!r}")
        for name in stated:
            _check_name(name)
        files = {name: _fingerprint(entry) for name, entry in stated.items() if _is_wanted(name)}
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable(f"its answer is not that of a hub: {type(error).__name__} {error}") from error
    if _COMMIT.fullmatch(revision) and commit != revision:
        raise CheckpointError(f"{endpoint} gives commit {commit} of '{model_id}', not {revision}: nothing was fetched.")
    if "config.json" not in files:
        raise CheckpointError(f"'{model_id}' at {endpoint} is no model of stgraph: it has no config.json.")
    return commit, files


def _fingerprint(entry: Mapping[str, Any]) -> Fingerprint:
    large = entry.get("lfs")
    if large:
        made = Fingerprint(int(large["size"]), "sha256", str(large["sha256"]).lower())
    else:
        made = Fingerprint(int(entry["size"]), "git", str(entry["blobId"]).lower())
    if made.size < 0 or not re.fullmatch(r"[0-9a-f]{64}" if large else r"[0-9a-f]{40}", made.digest):
        raise ValueError(f"size or hash of {entry['rfilename']!r}")
    return made


def _check_name(name: str) -> None:
    if re.search(r"[\\:\x00-\x1f]", name) or any(step in ("", ".", "..") for step in name.split("/")):
        raise CheckpointError(f"The hub lists a file {name!r}, which may lead out of its folder: nothing was fetched.")


def _is_wanted(name: str) -> bool:
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in FILES)


def _fetch(web: Web, base: str, home: Path, commit: str, files: Mapping[str, Fingerprint], model_id: str) -> None:
    # The list comes first: with it, an interrupted folder is told from a whole one without the hub.
    with atomic_path(home / f"{commit}.json") as tmp:
        tmp.write_text(json.dumps({name: asdict(file) for name, file in files.items()}, indent=1), encoding="utf-8")
    partial = home / "partial"
    partial.mkdir(exist_ok=True)
    with _progress(model_id, sum(file.size for file in files.values())) as show:
        done = 0
        for name, expected in files.items():
            target = home / commit / name
            if not (target.is_file() and expected.fits(target)):
                # Named by content: what was begun for one commit serves another.
                piece = partial / expected.digest
                web.file(f"{base}/{quote(name)}", piece, expected, on_bytes=lambda there, done=done: show(done + there))  # type: ignore[misc]
                target.parent.mkdir(parents=True, exist_ok=True)
                piece.replace(target)
            done += expected.size
            show(done)


def _is_whole(home: Path, commit: str) -> bool:
    """Whether all files of a commit are in the cache; they were checked when they came."""
    try:
        files = json.loads((home / f"{commit}.json").read_text(encoding="utf-8"))
        return all((home / commit / name).stat().st_size == file["size"] for name, file in files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _kept(model_id: str, revision: str, home: Path, ref: Path, reason: str, *, warn: bool) -> Path:
    """The copy in the cache, if there is one."""
    commit = revision
    if not _COMMIT.fullmatch(revision) and ref.is_file():
        commit = ref.read_text(encoding="utf-8").strip()
    if not _COMMIT.fullmatch(commit) or not _is_whole(home, commit):
        raise CheckpointError(
            f"There is no folder '{model_id}', and no model of that id (revision '{revision}') in the cache "
            f"'{home.parent}', while {reason}: go online once, or copy the folder of the model here and give its path."
        )
    if warn:
        warnings.warn(
            f"'{model_id}' is the copy of '{revision}' in the cache (commit {commit[:12]}), for {reason}.",
            StgraphWarning,
            stacklevel=4,
        )
    return home / commit


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """The lock of a folder of the cache, waited for: who comes second finds the work done."""
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for second in range(_WAIT_FOR_ANOTHER):
            try:
                stack.enter_context(locked(home))
                break
            except InputError:
                if second == _WAIT_FOR_ANOTHER - 1:
                    raise
                sleep(1)
        yield


@contextmanager
def _progress(model_id: str, total: int) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = [TextColumn(f"fetching {model_id}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda there: progress.update(task, completed=there)
