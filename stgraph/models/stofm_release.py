"""Both networks of SToFM in the layout they are published in.

::

    config.json                         sizes of the SE(2) transformer
    se2transformer.pth                  its weights
    cell_encoder/cell_bert/config.json  a Hugging Face BERT
    cell_encoder/cell_bert/model.safetensors (or pytorch_model.bin)
    cell_encoder/cell_proj.bin          what its class token is projected by

Only tensors and JSON are read: no code in the files is ever run.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stgraph._files import atomic_dir
from stgraph.errors import CheckpointError, InputError
from stgraph.models.bert_checkpoint import BERT, PROJECTION, load_rank_encoder, save_rank_encoder
from stgraph.models.bert_checkpoint import CONFIG as BERT_CONFIG
from stgraph.models.bert_checkpoint import WEIGHTS as BERT_WEIGHTS
from stgraph.models.pair_scope import PairScope
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.stofm_checkpoint import CONFIG, RELEASED, WEIGHTS, load_stofm, save_stofm
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.nn.edge_attention.backends import Backend

CELL_ENCODER = "cell_encoder"

Network = TypeVar("Network")


@dataclass(frozen=True)
class SToFMRelease:
    """The two networks of SToFM, which fit together.

    Attributes
    ----------
    cells
        Genes of a cell to its features.
    graph
        Features of the cells of a part of a slice to their embeddings.
    """

    cells: RankEncoder
    graph: SToFMSE2

    def __post_init__(self) -> None:
        if self.cells.out_channels != self.graph.in_channels:
            raise InputError(
                f"The cell encoder gives {self.cells.out_channels} features of a cell, but the SE(2) transformer takes "
                f"{self.graph.in_channels}: they are not of one model."
            )


def is_stofm_release(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like the published layout, whole or not.

    Examples
    --------
    >>> from stgraph.models.stofm_release import is_stofm_release
    >>> is_stofm_release("nowhere")
    False
    """
    return any((Path(folder) / name).exists() for name in (WEIGHTS, CELL_ENCODER))


def load_stofm_release(
    folder: str | os.PathLike[str],
    *,
    scope: PairScope = RELEASED,
    tabulate: float | None = None,
    backend: Backend = "auto",
    random_state: int = 0,
) -> SToFMRelease:
    """Read the whole published layout.

    Parameters
    ----------
    folder
        The one with ``config.json``; other files in it are left alone.
    scope, tabulate, backend
        As for `stgraph.models.stofm_checkpoint.load_stofm`.
    random_state
        Seed of the heads, which the published files do not have.

    Returns
    -------
    SToFMRelease
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If files are missing, damaged or hold more than tensors, or do not fit their configs or each other; what is
        wrong with either network is said at once.

    Examples
    --------
    >>> import tempfile
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> from stgraph.models.stofm_release import SToFMRelease, load_stofm_release, save_stofm_release
    >>> from stgraph.models.stofm_se2 import SToFMSE2
    >>> release = SToFMRelease(RankEncoder(10, 16, 8, pooling="class"), SToFMSE2(16, 32, num_layers=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_stofm_release(release, folder)
    ...     load_stofm_release(folder).graph.in_channels
    16
    """
    folder = Path(folder)
    _check_files(folder)
    problems: list[str] = []
    cells = _attempt(lambda: load_rank_encoder(folder / CELL_ENCODER, random_state=random_state), problems)
    graph = _attempt(
        lambda: load_stofm(folder, scope=scope, tabulate=tabulate, backend=backend, random_state=random_state), problems
    )
    if cells is None or graph is None:
        raise CheckpointError(" ".join(problems))
    try:
        return SToFMRelease(cells, graph)
    except InputError as error:
        raise CheckpointError(f"'{folder}' is not one release of SToFM. {error}") from error


def save_stofm_release(release: SToFMRelease, folder: str | os.PathLike[str], *, heads: bool = False) -> None:
    """Write the whole published layout: the inverse of `load_stofm_release`, to the bit.

    Parameters
    ----------
    release
        Two networks in float32, of finite weights; the SE(2) transformer post-norm, and with heads of the published
        mask. Its scope has no place in the layout.
    folder
        Where to. It must not exist, or be empty; it appears whole or not at all.
    heads
        Whether to write what predicts masked genes, masked cells and distances too, as needed to train on; the
        published files have none of it.

    Raises
    ------
    InputError
        If the layout has no place for the model, or the folder has content.
    """
    with atomic_dir(folder) as tmp:
        save_stofm(release.graph, tmp, heads=heads)
        save_rank_encoder(release.cells, tmp / CELL_ENCODER, head=heads)


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder '{folder}'.")
    bert = f"{CELL_ENCODER}/{BERT}"
    needed = [(CONFIG,), (WEIGHTS,), (f"{bert}/{BERT_CONFIG}",), tuple(f"{bert}/{name}" for name in BERT_WEIGHTS)]
    needed += [(f"{CELL_ENCODER}/{PROJECTION}",)]
    if lacking := [" or ".join(names) for names in needed if not any((folder / name).is_file() for name in names)]:
        raise CheckpointError(
            f"'{folder}' lacks {'; '.join(lacking)} of the layout in which SToFM is published: copy it again, whole."
        )


def _attempt(load: Callable[[], Network], problems: list[str]) -> Network | None:
    try:
        return load()
    except CheckpointError as error:
        problems.append(str(error))
        return None
