"""Neighbour search with torch-cluster, on the CPU or a GPU."""

import importlib
import os
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.edges import index_dtype
from stgraph.graph.search import Candidates
from stgraph.graph.spatial_order import spatial_order

_MOST_ON_GPU = 100
"""Neighbours that torch-cluster's kernel for GPUs can hold."""

_FIRST_CAP = 64


@dataclass(frozen=True)
class TorchClusterSearch:
    """Search with torch-cluster, for `KNN`, `Radius` and whatever else takes a `NeighborSearch`.

    The graph is the same as with `KDTreeSearch`, to the bit.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. More than 100 neighbours, the most that
        torch-cluster finds on a GPU, are searched for on the CPU.

    Raises
    ------
    InputError
        If torch-cluster is not installed or the device is not there.

    Examples
    --------
    >>> from stgraph.data.torch_cluster_search import TorchClusterSearch
    >>> from stgraph.graph.builders import KNN
    >>> KNN(6, search=TorchClusterSearch("cpu")).search
    TorchClusterSearch(device='cpu')
    """

    device: str = "cpu"

    def __post_init__(self) -> None:
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise InputError(f"TorchClusterSearch: '{self.device}' is no device: use 'cpu' or 'cuda'.") from error

    def nearest(self, pos: NDArray[np.float64], k: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.integer]:
        """The ``k`` nearest cells of each; see `stgraph.graph.search.NeighborSearch`."""
        knn = _torch_cluster().knn
        x = self._tensor(pos, "cpu" if k > _MOST_ON_GPU else self.device)
        y = x if rows is None else x[torch.as_tensor(rows, device=x.device)]
        found = knn(x, y, k, num_workers=os.cpu_count() or 1)[1]
        index: NDArray[np.integer] = found.reshape(len(y), k).cpu().numpy().astype(index_dtype(len(pos)))
        return index

    def within(self, pos: NDArray[np.float64], radius: float) -> Candidates:
        """All cells up to ``radius`` from each; see `stgraph.graph.search.NeighborSearch`."""
        search = _torch_cluster().radius
        order = spatial_order(pos)
        x = self._tensor(pos[order], self.device)
        # Only what is nearer than it is found there; and its square must not vanish.
        beyond = max(radius * (1 + 1e-12), 1e-150)
        rows = torch.arange(len(x), device=x.device)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        cap = min(_FIRST_CAP, len(x))
        while len(rows):
            row, col = search(x, x[rows], beyond, max_num_neighbors=cap, num_workers=os.cpu_count() or 1)
            # Who has as many as the cap may have more: they are asked again.
            full = (torch.bincount(row, minlength=len(rows)) >= cap) & (cap < len(x))
            kept = ~full[row]
            found.append((rows[row[kept]].cpu().numpy(), col[kept].cpu().numpy()))
            rows, cap = rows[full], min(4 * cap, len(x))
        start = np.zeros(len(x) + 1, dtype=np.int64)
        if not found:
            return Candidates(order, start, np.zeros(0, dtype=index_dtype(0)))
        all_rows, neighbors = (np.concatenate(parts) for parts in zip(*found, strict=True))
        np.cumsum(np.bincount(all_rows, minlength=len(x)), out=start[1:])
        if len(found) > 1:
            neighbors = neighbors[np.argsort(all_rows, kind="stable")]
        return Candidates(order, start, neighbors.astype(index_dtype(len(pos))))

    def _tensor(self, pos: NDArray[np.float64], device: str) -> torch.Tensor:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"TorchClusterSearch: there is no GPU for device '{device}' here: use 'cpu'.")
        return torch.as_tensor(np.array(pos, dtype=np.float64)).to(device)


def _torch_cluster() -> ModuleType:
    try:
        # Here, for it is an extra that takes a quarter of an hour to compile.
        return importlib.import_module("torch_cluster")
    except (ImportError, OSError) as error:
        raise InputError(
            f"TorchClusterSearch needs the package torch-cluster ({error}), of the extra 'native': "
            "make native, or pip install --no-build-isolation 'stgraph[native]'."
        ) from error
