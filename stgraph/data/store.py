"""The parts of a corpus on disk as a data set of `HeteroData`: read as they are asked for."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from torch_geometric.data import HeteroData

from stgraph.data.manifest import SHARDS, Manifest
from stgraph.data.parts import part_data
from stgraph.data.shards import MEND, Shard
from stgraph.errors import InputError, StoreError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.halo import Part, part_with_halo

_MAX_OPEN = 128
"""Shards mapped at once, in each process."""


class CorpusDataset(Dataset[HeteroData]):
    """Parts of the slices of a corpus, which may be larger than memory.

    Shards are mapped into memory when a part of them is asked for, in each process anew, so
    the data set can be sent to the workers of a `torch.utils.data.DataLoader`, forked or
    spawned. The first time a process touches a part, its checksum is verified.

    Parameters
    ----------
    path
        A folder that `stgraph.data.corpus.build_corpus` wrote.
    num_hops
        Hops of context around each part.
    informs
        As in `stgraph.data.parts.part_data`.
    counts
        Whether to give the counts of the cells.
    transform
        Called with each part; what it returns is given instead.

    Attributes
    ----------
    manifest
        What the corpus holds.
    obs_columns
        Names of the L label columns.
    categories
        For each of them, the labels of the whole corpus, sorted.

    Raises
    ------
    StoreError
        If there is no corpus, or it is unfinished; and, when a part is asked for, if its
        shard is missing, truncated or damaged.

    Notes
    -----
    A part is what `stgraph.data.parts.part_data` gives, ``cell.index`` being the rows of
    ``graph(slice)``, and in addition

    ==================  =======================================================================
    ``cell.row``        (n,) int64, rows of the cells in the file they came from
    ``cell.y``          (n, L) int64, labels as numbers in ``categories``, -1 where there is none;
                        only if the corpus has label columns
    ``cell.gene``       (T,) int64, genes of the cells, one cell after the other, as numbers in
                        ``genes``; only with ``counts``
    ``cell.count``      (T,) int32, how often they were counted
    ``cell.num_genes``  (n,) int64, how many of the T belong to each cell
    ==================  =======================================================================

    Batches join all of them end to end.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from stgraph.data.corpus import build_corpus
    >>> from stgraph.data.store import CorpusDataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0].write_h5ad(f"{folder}/a.h5ad")
    ...     _ = build_corpus([f"{folder}/a.h5ad"], f"{folder}/corpus")
    ...     data = CorpusDataset(f"{folder}/corpus", counts=True)[0]
    >>> int(data["cell"].owned.sum()), bool(data["cell"].num_genes.sum() == len(data["cell"].gene))
    (200, True)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_hops: int = 1,
        informs: bool = True,
        counts: bool = False,
        transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if num_hops < 0:
            raise InputError(f"CorpusDataset needs num_hops of 0 or more, not {num_hops}.")
        self.path = Path(path).absolute()
        self.num_hops = num_hops
        self.informs = informs
        self.counts = counts
        self.transform = transform
        self.manifest = Manifest.load(self.path)
        self.obs_columns = list(self.manifest.settings["obs_columns"])
        self.categories = {
            column: sorted({label for record in self.manifest.slices for label in record.categories[column]})
            for column in self.obs_columns
        }
        self._place = {record.slice_id: number for number, record in enumerate(self.manifest.slices)}
        self._first = np.cumsum([0, *(record.num_parts for record in self.manifest.slices)])
        self._forget()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> HeteroData:
        which, number = self._locate(index)
        shard = self._shard(which)
        part = self._part(which, shard, number)
        data = part_data(shard.graph, part, informs=self.informs)
        cell = data["cell"]
        cell.row = torch.from_numpy(shard.arrays["row"][part.cells])
        if self.obs_columns:
            cell.y = torch.from_numpy(self._labels(which, shard, part.cells))
        if self.counts:
            gene, count, num_genes = _counts_of(shard, part.cells, shard.bounds(number))
            cell.gene, cell.count, cell.num_genes = map(torch.from_numpy, (gene, count, num_genes))
        return data if self.transform is None else self.transform(data)

    def __getstate__(self) -> dict[str, Any]:
        # Maps are of a process; another makes its own.
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_open", "_levels", "_verified", "_codes")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def genes(self) -> list[str]:
        """The vocabulary: G gene names, by number."""
        return self.manifest.genes

    @property
    def slices(self) -> list[str]:
        """Names of the slices."""
        return list(self._place)

    def slice_of(self, index: int) -> str:
        """Name of the slice that a part is of."""
        return self.manifest.slices[self._locate(index)[0]].slice_id

    def graph(self, slice_id: str) -> SliceGraph:
        """A whole slice, on memory-mapped arrays; all of it is verified first.

        Parameters
        ----------
        slice_id
            Name of the slice.

        Returns
        -------
        SliceGraph
            Cells in the order of the shard; arrays are read-only.

        Raises
        ------
        InputError
            If there is no such slice.
        StoreError
            If its shard is damaged.
        """
        return self._whole(slice_id).graph

    def names(self, slice_id: str) -> list[str]:
        """Names of the cells of a slice, in the order of `graph`: ``names[cell.index]``."""
        return self._whole(slice_id).names()

    def measured(self, slice_id: str) -> NDArray[np.bool_]:
        """Which genes of the vocabulary a slice has measured, (G,): the others are unknown, not zero."""
        measured = np.zeros(len(self.genes), dtype=bool)
        measured[self._shard(self._number(slice_id)).arrays["measured"]] = True
        return measured

    def _forget(self) -> None:
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._levels: int | None = None
        self._verified: dict[int, NDArray[np.bool_]] = {}
        self._codes: dict[int, list[NDArray[np.int64]]] = {}

    def _locate(self, index: int) -> tuple[int, int]:
        """Number of the slice, and of the part in it."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} parts, so there is no part {index}.")
        index = int(index) % len(self)
        which = int(np.searchsorted(self._first, index, side="right")) - 1
        return which, index - int(self._first[which])

    def _number(self, slice_id: str) -> int:
        if slice_id not in self._place:
            raise InputError(f"The corpus '{self.path}' has no slice '{slice_id}'; it has: {', '.join(self._place)}.")
        return self._place[slice_id]

    def _shard(self, which: int) -> Shard:
        shard = self._open.pop(which, None)
        if shard is None:
            record = self.manifest.slices[which]
            shard = Shard(self.path / SHARDS / record.shard)
            if (shard.seal, len(shard), shard.num_parts, shard.slice_id, shard.arrays["x"].shape[1]) != (
                record.seal,
                record.num_cells,
                record.num_parts,
                record.slice_id,
                record.channels,
            ) or (shard.arrays["measured"] >= len(self.genes)).any():
                raise StoreError(f"The shard '{shard.path}' is not the one of the manifest. To mend it, {MEND}.")
            # PyG makes batches of graphs with the same types only; of others it numbers nodes wrongly.
            levels = max(1, shard.metadata["levels"])
            if self._levels not in (None, levels):
                raise InputError(
                    f"'{record.slice_id}' has {levels} levels of virtual cells and others {self._levels}, which cannot "
                    "be batched: build the corpus with a builder that gives every slice the same levels."
                )
            self._levels = levels
        self._open[which] = shard
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
        return shard

    def _whole(self, slice_id: str) -> Shard:
        which = self._number(slice_id)
        shard = self._shard(which)
        self._verify(which, shard, np.arange(shard.num_parts))
        return shard

    def _part(self, which: int, shard: Shard, number: int) -> Part:
        owned = np.arange(*shard.bounds(number))
        self._verify(which, shard, np.array([number]))
        if self._verified[which].all():
            return part_with_halo(shard.graph, owned, self.num_hops)
        # Edges are followed only after they were verified, one hop after the other.
        part = part_with_halo(shard.graph, owned, 0)
        for hops in range(1, self.num_hops + 1):
            part = part_with_halo(shard.graph, owned, hops)
            self._verify(which, shard, shard.parts_of(part.cells))
        return part

    def _verify(self, which: int, shard: Shard, parts: NDArray[np.int64]) -> None:
        verified = self._verified.setdefault(which, np.zeros(shard.num_parts, dtype=bool))
        for part in parts[~verified[parts]].tolist():
            shard.verify(part)
            verified[part] = True

    def _labels(self, which: int, shard: Shard, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        if which not in self._codes:
            of = shard.categories
            # One more at the end, for -1.
            self._codes[which] = [
                np.array([*np.searchsorted(self.categories[column], of[column]), -1], dtype=np.int64)
                for column in self.obs_columns
            ]
        codes = shard.arrays["label"][cells]
        return np.stack([table[codes[:, i]] for i, table in enumerate(self._codes[which])], axis=1)


class PartOrderSampler(Sampler[int]):
    """All parts in random order, but those of a slice that is on its way first.

    Slices come in random order, ``window`` of them at a time, and the parts of these mixed:
    nearly as random as all parts mixed, while few shards are read at once, so that a corpus
    larger than memory is read from disk once in an epoch and not once in a part.

    Parameters
    ----------
    dataset
        What to sample.
    window
        Slices that are mixed.
    random_state
        Seed; each epoch goes on from it.
    """

    def __init__(self, dataset: CorpusDataset, *, window: int = 16, random_state: int = 0) -> None:
        if window < 1:
            raise InputError(f"PartOrderSampler needs a window of at least one slice, not {window}.")
        self.dataset = dataset
        self.window = window
        self.random_state = random_state
        self._rng = np.random.default_rng(random_state)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        num_parts = np.array([record.num_parts for record in self.dataset.manifest.slices])
        first = np.cumsum(num_parts) - num_parts
        order = self._rng.permutation(len(num_parts))
        for begin in range(0, len(order), self.window):
            parts = [first[i] + np.arange(num_parts[i]) for i in order[begin : begin + self.window]]
            yield from self._rng.permutation(np.concatenate(parts)).tolist()


def _counts_of(
    shard: Shard, cells: NDArray[np.int64], bounds: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Genes, counts, and how many of them each cell has."""
    ptr, gene, count = shard.counts
    begin = ptr[cells]
    size = ptr[cells + 1] - begin
    # Counts are below 2**31, as `stgraph.io.validate.canonical_counts` sees to.
    # The cells of the part itself stand together, in the shard and among the sorted cells: one copy for all.
    low, high = np.searchsorted(cells, bounds)
    before = _runs(begin[:low], size[:low])
    own = slice(int(ptr[bounds[0]]), int(ptr[bounds[1]]))
    after = _runs(begin[high:], size[high:])
    genes = np.concatenate([gene[before], gene[own], gene[after]], dtype=np.int64)
    counts = np.concatenate([count[before], count[own], count[after]], dtype=np.int32, casting="unsafe")
    return genes, counts, size


def _runs(begin: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each ``begin`` on, ``size`` of them."""
    shift = np.cumsum(size) - size
    return np.repeat(begin - shift, size) + np.arange(size.sum())
