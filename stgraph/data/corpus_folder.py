"""What a build finds in the folder of a corpus: is it ours, of which settings, and is it whole."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stgraph.data.arrays import sha256_of
from stgraph.data.documents import read_document, write_document
from stgraph.data.lock import LOCK
from stgraph.data.manifest import CONFIG, CORPUS_VERSION, ENCODER, GENES, MANIFEST, RECORDS, SHARDS
from stgraph.errors import InputError, StoreError

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(\.[a-z]+)?")
"""What a killed `stgraph._files.atomic_path` leaves."""


def check_folder(folder: Path, paths: Sequence[str]) -> None:
    """Refuse a folder that holds anything but a corpus, before anything of it is removed.

    Parameters
    ----------
    folder
        Of the corpus; it need not exist.
    paths
        Files the corpus is to be built from.

    Raises
    ------
    InputError
        If it is a file, holds something else, or a file lies in it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"'{folder}' is a file, but a corpus is a folder: choose another --out.")
    for path in paths:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"'{path}' lies in '{folder}', the folder of the corpus: choose another --out.")
    if not folder.is_dir() or _told(folder) is not None:
        return
    foreign = next((p.name for p in folder.iterdir() if p.name != LOCK and not _LEFTOVER.fullmatch(p.name)), "")
    if foreign:
        raise InputError(f"'{folder}' holds '{foreign}' and is no corpus: choose another --out, or empty it.")


def prepare_folder(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Remove what killed writers left and what is damaged; see that the settings are those of before.

    Parameters
    ----------
    folder
        Of the corpus, locked.
    settings
        Of this build.
    overwrite
        Remove all of the corpus that stands there.

    Raises
    ------
    InputError
        If the corpus was built with other settings, or by another version.
    """
    for path in _leftovers(folder):
        path.unlink(missing_ok=True)
    if overwrite or not any((folder / RECORDS).glob("*.json")):
        for name in (MANIFEST, RECORDS, SHARDS, ENCODER, GENES):
            _remove(folder / name)
    else:
        _check_same(folder, settings)
    if _read(folder / CONFIG).get("settings") != settings:
        write_document(folder / CONFIG, {"corpus_version": CORPUS_VERSION, "settings": settings})
    # What is damaged counts as missing, and what follows from it is made again.
    if not _encoder_is_whole(folder / ENCODER, settings):
        _remove(folder / ENCODER)
    if not _read(folder / GENES):
        _remove(folder / GENES)
    for name in (SHARDS, RECORDS):
        (folder / name).mkdir(exist_ok=True)


def _check_same(folder: Path, settings: Mapping[str, Any]) -> None:
    before = _told(folder) or {}
    if before.get("corpus_version") != CORPUS_VERSION:
        raise InputError(
            f"The corpus '{folder}' has version {before.get('corpus_version')}, and this stgraph writes version "
            f"{CORPUS_VERSION}: choose another --out, or start anew with --overwrite."
        )
    changed = _difference(before.get("settings"), settings)
    if changed:
        raise InputError(
            f"The corpus '{folder}' was built with other settings ({'; '.join(changed)}): use the same, choose "
            "another --out, or start anew with --overwrite."
        )


def _told(folder: Path) -> dict[str, Any] | None:
    """What the folder tells of the corpus it holds: the manifest tells it too, should the other be damaged."""
    for name in (CONFIG, MANIFEST):
        told = _read(folder / name)
        if "corpus_version" in told:
            return told
    return None


def _read(path: Path) -> dict[str, Any]:
    """A document; empty if it is missing or damaged."""
    try:
        return read_document(path)
    except StoreError:
        return {}


def _encoder_is_whole(folder: Path, settings: Mapping[str, Any]) -> bool:
    told, state = _read(folder / "config.json"), folder / "state.safetensors"
    if not told or not state.is_file():
        return False
    # What is not the encoder of the settings was put there by somebody else, and would be run.
    return bool(told["encoder"] == settings["encoder"] and told["state"] == sha256_of(state))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _leftovers(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / SHARDS, folder / RECORDS, folder / ENCODER):
        yield from (path for path in place.glob(".*.tmp*") if _LEFTOVER.fullmatch(path.name))


def _difference(before: Any, now: Any, at: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*now, *(key for key in before if key not in now)]
        return [text for key in keys for text in _difference(before.get(key), now.get(key), f"{at}.{key}".strip("."))]
    return [] if before == now else [f"{at} is {now!r}, and was {before!r}"]
