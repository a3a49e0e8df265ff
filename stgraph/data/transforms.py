"""PyG transforms of parts and batches of slice graphs.

None writes to the data it is given: PyG hands a transform a shallow copy, and here
tensors in it are replaced, never changed.

All randomness comes from ``random_state``, and every call draws anew. In the workers of a
`torch.utils.data.DataLoader` the seed of the worker is mixed in, so that workers and
epochs differ; the loader gives the same ones again if its ``generator`` is seeded alike
and it has as many workers. Transforms of different classes draw independently even with
the same ``random_state``.
"""

import math
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from stgraph.data.choice import choose_cells
from stgraph.data.edge_types import AT_CELLS, TO_CELL
from stgraph.data.informs import connect_informs_
from stgraph.data.lengths import measure_, spacing_of
from stgraph.errors import InputError


class RandomTransform(BaseTransform):  # type: ignore[misc]
    """A transform with a random generator of its own.

    Parameters
    ----------
    random_state
        Seed; see the module for workers.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state
        self._seed: tuple[int, ...] | None = None
        self._generator = torch.Generator()

    def __getstate__(self) -> dict[str, Any]:
        # As numbers: a generator does not reach workers that are spawned, as they are on macOS and Windows.
        return self.__dict__ | {"_generator": self._generator.get_state().tolist()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_generator": torch.Generator()}
        self._generator.set_state(torch.tensor(state["_generator"], dtype=torch.uint8))

    @property
    def generator(self) -> torch.Generator:
        """The generator of this process, on the CPU."""
        worker = get_worker_info()
        kind = zlib.crc32(type(self).__qualname__.encode())
        seed = (self.random_state, kind) if worker is None else (self.random_state, kind, worker.seed)
        if seed != self._seed:
            self._generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
            self._seed = seed
        return self._generator

    def restart(self) -> None:
        """Draw from the beginning again."""
        self._seed = None


class MaskCells(RandomTransform):
    """Mark a share of the owned cells in ``cell.masked``, (n,) bool: models hide them.

    Parameters
    ----------
    rate
        Share of the owned cells of a part, at least one cell.
    random_state
        Seed.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.transforms import MaskCells
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> int(MaskCells(0.3)(data)["cell"].masked.sum()), "masked" in data["cell"]
    (60, False)
    """

    def __init__(self, rate: float = 0.3, random_state: int = 0) -> None:
        super().__init__(random_state)
        self.rate = _share(self, rate)

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the mask."""
        data["cell"].masked = choose_cells(data["cell"].owned, self.rate, self.generator)
        return data


class JitterPositions(RandomTransform):
    """Move every cell by Gaussian noise, and measure all edges with a cell at one end anew.

    Who is whose neighbour stays, and so do virtual cells.

    Parameters
    ----------
    scale
        Standard deviation along each axis, in spacings of the slice.
    random_state
        Seed.
    """

    def __init__(self, scale: float = 0.1, random_state: int = 0) -> None:
        super().__init__(random_state)
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"JitterPositions needs a scale of 0 or more spacings, not {scale}.")
        self.scale = scale

    def forward(self, data: HeteroData) -> HeteroData:
        """Move cells."""
        cell = data["cell"]
        noise = torch.randn(cell.num_nodes, 2, generator=self.generator).to(cell.pos)
        cell.pos = cell.pos + noise * (self.scale * spacing_of(data))[:, None]
        measure_(data, AT_CELLS)
        return data


class RigidMotion(RandomTransform):
    """Turn, mirror and move each slice: all positions, those of virtual cells included.

    Lengths stay as they are, to the bit. A slice of a batch moves as a whole, and each
    in its own way. ``origin`` stays: positions no longer say where in the slice a cell is.

    Parameters
    ----------
    translation
        Standard deviation of the shift along each axis, in spacings.
    reflect
        Whether to mirror every other slice.
    random_state
        Seed.
    """

    def __init__(self, translation: float = 10.0, reflect: bool = True, random_state: int = 0) -> None:
        super().__init__(random_state)
        if not (math.isfinite(translation) and translation >= 0):
            raise InputError(f"RigidMotion needs a translation of 0 or more spacings, not {translation}.")
        self.translation = translation
        self.reflect = reflect

    def forward(self, data: HeteroData) -> HeteroData:
        """Move everything."""
        count = len(data.spacing)
        angle = 2 * math.pi * torch.rand(count, generator=self.generator, dtype=torch.float64)
        side = 1.0 - 2.0 * torch.randint(2, (count,), generator=self.generator) * int(self.reflect)
        shift = torch.randn(count, 2, generator=self.generator) * self.translation
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos, -side * sin], 1), torch.stack([sin, side * cos], 1)], 1)
        for store in data.node_stores:
            if "pos" in store:
                turned = (_of_nodes(turn.to(store.pos), store) * store.pos[:, None]).sum(dim=2)
                store.pos = turned + _of_nodes(shift.to(store.pos) * data.spacing[:, None], store)
        return data


class DropGenes(RandomTransform):
    """Set a share of the features to zero in all cells and virtual cells of a slice.

    Each slice of a batch loses features of its own. Which are left is recorded in
    ``kept``, (B, C) bool.

    Parameters
    ----------
    rate
        Share of the features (genes, where features are genes); at least one is dropped
        and at least one stays.
    random_state
        Seed.
    """

    def __init__(self, rate: float = 0.1, random_state: int = 0) -> None:
        super().__init__(random_state)
        self.rate = _share(self, rate)

    def forward(self, data: HeteroData) -> HeteroData:
        """Drop features."""
        channels = data["cell"].x.shape[1]
        if channels < 2:
            raise InputError(f"DropGenes needs at least two features, so that one stays, not {channels}.")
        count = min(channels - 1, max(1, round(self.rate * channels)))
        rank = torch.rand(len(data.spacing), channels, generator=self.generator).argsort(dim=1).argsort(dim=1)
        data.kept = (rank >= count).to(data["cell"].x.device)
        for store in data.node_stores:
            if "x" in store:
                store.x = torch.where(_of_nodes(data.kept, store), store.x, 0.0)
        return data


class AddInforms(BaseTransform):  # type: ignore[misc]
    """Add the edges between all cells and virtual cells that ``informs=False`` left out.

    To be used where a part is needed in full only for a moment, for example as
    ``transform`` of a loader. Data that have them are returned as they are. On a batch it
    makes no edge between slices, but PyG's ``to_data_list`` knows nothing of edges that
    were added to a batch: add them before.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.transforms import AddInforms
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> data = AddInforms()(to_hetero_data(graph, informs=False))
    >>> data["virtual", "informs", "cell"].num_edges == 200 * len(graph.virtual)
    True
    """

    def forward(self, data: HeteroData) -> HeteroData:
        """Add edges."""
        if TO_CELL not in data.edge_types:
            connect_informs_(data)
        return data


def _share(transform: BaseTransform, rate: float) -> float:
    if not 0 < rate < 1:
        raise InputError(f"{type(transform).__name__} needs a rate between 0 and 1, not {rate}.")
    return rate


def _of_nodes(of_graphs: Tensor, store: object) -> Tensor:
    """Rows for nodes from rows for graphs."""
    batch = store.get("batch")  # type: ignore[attr-defined]
    return of_graphs if batch is None else of_graphs[batch]
