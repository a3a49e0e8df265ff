"""Write slices so that a reader finds a whole file or none."""

import os

from anndata import AnnData

from stgraph._files import atomic_path


def write_h5ad(adata: AnnData, path: str | os.PathLike[str]) -> None:
    """Write ``adata`` to ``path``, compressed, under a temporary name first.

    Parameters
    ----------
    adata
        What to write.
    path
        The final file; an existing one is replaced once the new one is complete.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from stgraph.io.write import write_h5ad
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_h5ad(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0], f"{folder}/a.h5ad")
    """
    with atomic_path(path) as tmp:
        adata.write_h5ad(tmp, compression="gzip")
