"""What a corpus holds: one record for each slice, and all of them together."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stgraph._config import instantiate
from stgraph._version import __version__
from stgraph.data.arrays import map_arrays, sha256_of
from stgraph.data.documents import fingerprint, read_document, write_document
from stgraph.errors import InputError, StoreError, TrustError
from stgraph.preprocess.encoder import CellEncoder

CORPUS_VERSION = 1
"""Of the layout of a corpus folder; raised when old code could not read new ones."""

MANIFEST, CONFIG, GENES, SHARDS, RECORDS, ENCODER = (
    "manifest.json",
    "config.json",
    "genes.json",
    "shards",
    "records",
    "encoder",
)


@dataclass(frozen=True)
class Source:
    """Where a slice came from.

    Attributes
    ----------
    path
        The file, as an absolute path.
    bytes, mtime_ns, sha256
        What it was: size, time of its last change, hash.
    num_rows
        Cells of the file, of all its sections, before any were left out.
    section, sections
        What the slice is called in the file, and what all are.
    um_per_unit
        Microns per unit that the user told, or None.
    """

    path: str
    bytes: int
    mtime_ns: int
    sha256: str
    num_rows: int
    section: str
    sections: list[str]
    um_per_unit: float | None


@dataclass(frozen=True)
class SliceRecord:
    """One slice of a corpus.

    Attributes
    ----------
    slice_id
        Its name; its shard is ``shards/NAME.safetensors``.
    bytes, sha256
        Of the shard.
    num_cells, num_edges, num_parts, num_virtual, num_counts, channels
        N, E, P, V, stored counts, C.
    unit
        ``"um"`` or ``"unknown"``.
    symmetric
        Whether every edge has its reverse.
    categories
        For each label column, its labels in this slice.
    seal
        Of the shard, `stgraph.data.shards.Shard.seal`: known as it is opened, its hash only once all of it was read.
    recipe
        Fingerprint of everything that shapes a shard, but its file.
    genes
        Length and hash of the vocabulary it was written with: a beginning of today's.
    source
        Where it came from.
    """

    slice_id: str
    bytes: int
    sha256: str
    num_cells: int
    num_edges: int
    num_parts: int
    num_virtual: int
    num_counts: int
    channels: int
    unit: str
    symmetric: bool
    categories: dict[str, list[str]]
    seal: str
    recipe: str
    genes: dict[str, Any]
    source: Source

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SliceRecord":
        """Read what `dataclasses.asdict` gave."""
        if Path(content["slice_id"]).name != content["slice_id"]:
            raise ValueError(f"a slice called '{content['slice_id']}'")
        return cls(**{**content, "source": Source(**content["source"])})

    @property
    def shard(self) -> str:
        """Name of the shard's file."""
        return f"{self.slice_id}.safetensors"


@dataclass(frozen=True)
class Manifest:
    """What a complete corpus holds.

    Attributes
    ----------
    slices
        In the order of their names.
    genes
        The vocabulary: G gene names, by number.
    settings
        What the corpus was built with.
    files
        Hash of every other file that is needed, by its path in the corpus.
    """

    slices: list[SliceRecord]
    genes: list[str]
    settings: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def num_cells(self) -> int:
        """Cells of all slices."""
        return sum(record.num_cells for record in self.slices)

    @property
    def num_parts(self) -> int:
        """Parts of all slices."""
        return sum(record.num_parts for record in self.slices)

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(record.bytes for record in self.slices)

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``; the genes stand in their own file."""
        content = {
            "corpus_version": CORPUS_VERSION,
            "stgraph_version": __version__,
            "settings": self.settings,
            "genes": {"count": len(self.genes), "sha256": fingerprint(self.genes)},
            "files": self.files,
            "slices": [asdict(record) for record in self.slices],
        }
        write_document(folder / MANIFEST, content)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Manifest":
        """Read the manifest of a complete corpus.

        Parameters
        ----------
        folder
            A folder that `stgraph.data.corpus.build_corpus` wrote.

        Raises
        ------
        StoreError
            If there is none, it is unfinished, damaged or of another version.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise StoreError(f"There is no corpus '{folder}'.")
        if not (folder / MANIFEST).is_file():
            unfinished = (folder / CONFIG).is_file()
            raise StoreError(
                f"The corpus '{folder}' is unfinished: run 'stgraph corpus build' again, which goes on where it ended."
                if unfinished
                else f"'{folder}' is not a corpus: it has no {MANIFEST}."
            )
        content = read_document(folder / MANIFEST)
        if content.get("corpus_version") != CORPUS_VERSION:
            raise StoreError(
                f"'{folder}' has corpus version {content.get('corpus_version')} (stgraph "
                f"{content.get('stgraph_version')}), and stgraph {__version__} reads version {CORPUS_VERSION}: "
                "use the stgraph that wrote it, or build it again."
            )
        try:
            genes = read_genes(folder)
            told = content["genes"]
            if told["count"] > len(genes) or fingerprint(genes[: told["count"]]) != told["sha256"]:
                raise StoreError(f"'{folder / GENES}' is not the vocabulary the corpus was written with.")
            slices = [SliceRecord.from_json(record) for record in content["slices"]]
            # While slices are added, the vocabulary may have grown already.
            return cls(slices, genes[: told["count"]], content["settings"], content["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"'{folder / MANIFEST}' cannot be used ({error}): build the corpus again.") from error


def read_genes(folder: Path) -> list[str]:
    """The vocabulary of a corpus, finished or not."""
    return [str(gene) for gene in read_document(folder / GENES)["genes"]]


def read_record(path: Path) -> SliceRecord:
    """The record of one slice.

    Raises
    ------
    StoreError
        If it is damaged or of another version.
    """
    content = read_document(path)
    try:
        return SliceRecord.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"'{path}' is no record of this stgraph ({error}).") from error


def load_encoder(folder: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> CellEncoder | None:
    """The cell encoder that made the features of a corpus.

    Parameters
    ----------
    folder
        A corpus.
    trust
        Packages beside stgraph whose classes may be built.

    Returns
    -------
    CellEncoder or None
        Fitted; None if the features came from the files.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    TrustError
        If it is of a package that is not trusted.
    """
    folder = Path(folder) / ENCODER
    if not folder.is_dir():
        return None
    try:
        return read_encoder(folder, trusted=("stgraph", *trust))
    except TrustError:
        raise
    except InputError as error:
        raise StoreError(f"The encoder in '{folder}' cannot be used ({error}).") from error


def read_encoder(folder: Path, *, trusted: Sequence[str] | None) -> CellEncoder:
    """Build the encoder in a folder, and give it its state."""
    told = read_document(folder / "config.json")
    path = folder / "state.safetensors"
    if not path.is_file() or sha256_of(path) != told["state"]:
        raise StoreError(f"'{path}' is missing or has changed since it was written: build the corpus again.")
    arrays, _ = map_arrays(path)
    encoder: CellEncoder = instantiate(told["encoder"], trusted=trusted)
    return encoder.load_state({name: array.copy() for name, array in arrays.items()})
