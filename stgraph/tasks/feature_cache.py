"""Features of cells, computed once for each state of an encoder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import to_config
from stgraph._version import __version__
from stgraph.data.arrays import crc32, map_arrays, write_arrays
from stgraph.data.documents import fingerprint as hash_of
from stgraph.errors import StoreError
from stgraph.preprocess.encoder import CellEncoder
from stgraph.tasks.unlabelled import fingerprint
from stgraph.training.distributed import first_process

_FEATURES = "x"


class FeatureCache:
    """Files of features, each named after a hash of all that its features follow from.

    That is what the encoder was built with, everything it has learnt, the counts and genes of the slice, and the
    version of stgraph. Another encoder of the same name, or the same after another step of training, finds nothing:
    what it asks for is computed. The folder may be deleted at any time.

    Parameters
    ----------
    folder
        Where files are kept; made if needed.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from pathlib import Path
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.feature_cache import FeatureCache
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)
    >>> encoder = LogPCA(n_components=4).fit(tissue)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = FeatureCache(Path(folder))
    ...     first, second = cache(encoder, tissue[0]), cache(encoder, tissue[0])
    ...     bool((first == second).all()), len(list(Path(folder).iterdir()))
    (True, 1)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, encoder: CellEncoder, adata: AnnData) -> NDArray[np.float32]:
        """Features of one slice.

        Parameters
        ----------
        encoder
            Fitted.
        adata
            A canonical slice.

        Returns
        -------
        ndarray
            (N, C) float32; read-only and mapped from its file, if the file was there.
        """
        path = self.folder / f"{self.key(encoder, adata)}.safetensors"
        kept = _kept(path, adata.n_obs)
        if kept is not None:
            return kept
        x = np.ascontiguousarray(encoder.transform(adata), dtype=np.float32)
        if first_process():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {_FEATURES: x}, {"crc32": crc32(x)})
        return x

    def key(self, encoder: CellEncoder, adata: AnnData) -> str:
        """Name of the file of these features, without suffix."""
        return hash_of([__version__, to_config(encoder), state_hash(encoder.state()), fingerprint(adata)])


def state_hash(state: Mapping[str, NDArray[Any]]) -> str:
    """Hash of named arrays: of their names, types, shapes and every byte.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.feature_cache import state_hash
    >>> state_hash({"a": np.zeros(2)}) == state_hash({"a": np.zeros((2, 1))})
    False
    """
    hasher = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        hasher.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def _kept(path: Path, n_cells: int) -> NDArray[np.float32] | None:
    """What the file holds; None if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        arrays, metadata = map_arrays(path)
    except StoreError:
        return None
    x = arrays.get(_FEATURES)
    if x is None or x.ndim != 2 or len(x) != n_cells or metadata.get("crc32") != crc32(x):
        return None
    kept: NDArray[np.float32] = x
    return kept
