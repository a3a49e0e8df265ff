"""SToFM as it is published, made a model that reads slices; and a model of ours made what is published."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from stgraph._config import to_config
from stgraph._files import atomic_dir
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
from stgraph.models.stofm_checkpoint import RELEASED
from stgraph.models.stofm_release import (
    CELL_ENCODER,
    SToFMRelease,
    is_stofm_release,
    load_stofm_release,
    save_stofm_release,
)
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.partition.tiles import SquareTiles
from stgraph.preprocess.gene_tables import write_table
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.named_arrays import bytes_to_genes
from stgraph.preprocess.orthologs import Orthologs
from stgraph.tasks.pretrained_model import Pretrained
from stgraph.tasks.rank_cells import RankCells

VOCABULARY = "gene_vocab"
"""Folder of the tables of genes, inside that of the weights."""

ORTHOLOGS = "*mouseid2humanid*.tsv*"
"""What a table of orthologs in it is called."""

_MAX_LENGTH = 2048

Part = TypeVar("Part")

is_released = is_stofm_release


def load_released(
    folder: str | os.PathLike[str],
    *,
    vocabulary: str | os.PathLike[str] | None = None,
    collisions: Literal["sum", "keep"] = "keep",
) -> Pretrained:
    """SToFM's published weights, with the settings that its authors' code runs them with.

    Genes of a cell in the order of their values, 2048 tokens at most; virtual cells as the code makes them; square
    tiles of about 1000 cells, in which everything attends to everything, distances beyond the 50 nearest being one
    constant. What these do is said where they are: `RankValueTokenizer`, `SToFMVirtualCells`, `SquareTiles` and
    `CompletePairs`. Genes of equal values, whose order the authors' code leaves open, stand in the order of the
    vocabulary.

    Parameters
    ----------
    folder
        In the layout of `stgraph.models.stofm_release`.
    vocabulary
        Folder of Geneformer's tables of genes, which are not published with the weights: tokens, medians and, to read
        symbols, names; for mouse also that of human ids. None for ``gene_vocab`` in ``folder``. The tables are as
        `GeneVocabulary.read` has them, that of orthologs is called ``*mouseid2humanid*.tsv*``.
    collisions
        What becomes of mouse genes with one human id: the authors' code lets a token occur several times; "sum" adds
        up their counts first.

    Returns
    -------
    Pretrained
        On the CPU, in eval mode, without domains. Saved by `Pretrained.save_pretrained`, it is a model directory like
        any other, which needs none of these files.

    Raises
    ------
    CheckpointError
        If files are missing, damaged or hold more than tensors, or do not fit each other; all that is wrong is said.

    Examples
    --------
    >>> from stgraph.tasks.stofm_release import load_released
    >>> load_released("ckpt")
    Traceback (most recent call last):
    stgraph.errors.CheckpointError: There is no folder 'ckpt'.
    """
    folder = Path(folder)
    tables = folder / VOCABULARY if vocabulary is None else Path(vocabulary)
    problems: list[str] = []
    release = _attempt(lambda: load_stofm_release(folder), problems)
    if release is None and not folder.is_dir():
        raise CheckpointError(problems[0])
    genes = _attempt(lambda: _read_vocabulary(tables), problems)
    table = _attempt(lambda: _find_orthologs(tables), problems)
    if release is None or genes is None or problems:
        raise CheckpointError(" ".join(problems))
    length = min(_MAX_LENGTH, release.cells.max_positions)
    try:
        published = RankCells(
            str(folder / CELL_ENCODER),
            str(tables),
            None if table is None else str(table),
            max_length=length,
            collisions=collisions,
        ).fit([])
    except InputError as error:
        raise CheckpointError(f"'{tables}' does not fit the cell encoder in '{folder}'. {error}") from error
    # One that knows no folder: its settings are saved, and shared, with the model.
    encoder = RankCells(max_length=length, collisions=collisions).load_state(published.state())
    return Pretrained(
        encoder=encoder,
        builder=KNN(),
        virtual_cells=SToFMVirtualCells(),
        model=release.graph,
        info={"source": "weights in the layout in which SToFM is published"},
        partitioner=SquareTiles(),
    )


def save_released(pretrained: Pretrained, folder: str | os.PathLike[str], *, heads: bool = False) -> None:
    """Write a model in SToFM's published layout, with its vocabulary: the inverse of `load_released`, to the bit.

    Parameters
    ----------
    pretrained
        Of a `RankCells` encoder and an `SToFMSE2`, as `save_stofm_release` takes them.
    folder
        Where to. It must not exist, or be empty; it appears whole or not at all.
    heads
        As of `save_stofm_release`.

    Raises
    ------
    InputError
        If the layout has no place for the model, or the folder has content.

    Warns
    -----
    StgraphWarning
        If the layout has no place for some of its settings, for it has none but sizes: whoever reads it takes the
        released ones instead.
    """
    encoder, model = pretrained.encoder, pretrained.model
    if not isinstance(encoder, RankCells) or not isinstance(model, SToFMSE2):
        raise InputError(
            "The published layout of SToFM is that of a RankCells encoder and an SToFMSE2 model, not of "
            f"{type(encoder).__name__} and {type(model).__name__}: keep it by save_pretrained."
        )
    if not encoder.genes:
        raise InputError("The cell encoder was not fitted: call fit(slices) first.")
    release = SToFMRelease(encoder.network, model)
    if lost := _lost(pretrained, encoder, model):
        warnings.warn(
            f"The published layout of SToFM has no place for {', '.join(lost)}, so that whoever reads it gets other "
            "embeddings: keep the model by save_pretrained too.",
            StgraphWarning,
            stacklevel=2,
        )
    with atomic_dir(folder) as tmp:
        save_stofm_release(release, tmp, heads=heads)
        (tmp / VOCABULARY).mkdir()
        encoder.tokenizer.vocabulary.write(tmp / VOCABULARY)
        names = bytes_to_genes(orthologs) if len(orthologs := encoder.state()["orthologs"]) else []
        if names:
            table = dict(zip(names[::2], names[1::2], strict=True))
            write_table(tmp / VOCABULARY / "mouseid2humanid.tsv.gz", table)


def _read_vocabulary(tables: Path) -> GeneVocabulary:
    if not tables.is_dir():
        raise CheckpointError(
            f"There is no folder '{tables}', and SToFM's weights are published without their genes: put Geneformer's "
            "tables of tokens, medians and names there, as tab-separated columns, or name their folder (vocabulary=)."
        )
    return GeneVocabulary.read(tables)


def _find_orthologs(tables: Path) -> Path | None:
    found = sorted(tables.glob(ORTHOLOGS))
    if len(found) > 1:
        raise CheckpointError(f"'{tables}' has {len(found)} tables '{ORTHOLOGS}', but one at most is read.")
    if found:
        Orthologs.read(found[0])
    return found[0] if found else None


def _lost(pretrained: Pretrained, encoder: RankCells, model: SToFMSE2) -> list[str]:
    """Settings that are not those which `load_released` takes."""
    length = min(_MAX_LENGTH, encoder.network.max_positions)
    pairs: list[tuple[str, Any, Any]] = [
        ("its virtual cells", pretrained.virtual_cells, SToFMVirtualCells()),
        ("its parts", pretrained.partitioner, SquareTiles()),
        ("its pairs (scope)", model.scope, RELEASED),
        ("its length of sequences (max_length)", encoder.max_length, length),
        ("its order of ties", encoder.ties, "vocabulary"),
        ("its domains", pretrained.domains, None),
    ]
    return [name for name, own, released in pairs if to_config(own) != to_config(released)]


def _attempt(load: Callable[[], Part], problems: list[str]) -> Part | None:
    try:
        return load()
    except (CheckpointError, InputError) as error:
        problems.append(str(error))
        return None
