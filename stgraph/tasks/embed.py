"""Apply a trained model to slices."""

import json
import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._version import __version__
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.slots import write_slots
from stgraph.io.read import ensure_canonical
from stgraph.io.slices import split_slices
from stgraph.tasks.pretrained import Pretrained, from_pretrained


def embed(adata: AnnData, model: Pretrained | str | os.PathLike[str], *, trust: Sequence[str] = ()) -> AnnData:
    """Embed the cells of a slice, or of several in one AnnData, with a trained model.

    Parameters
    ----------
    adata
        As `stgraph.read` gives it; it is not changed.
    model
        A model, the directory of one, or its id on the hub: see `stgraph.from_pretrained`.
    trust
        As there, where ``model`` is not loaded yet.

    Returns
    -------
    AnnData
        A copy with ``obsm["X_stgraph"]`` (N, C), ``obs["stgraph_domain"]`` if the model
        has domains, and ``uns["stgraph"]``; if it is one slice, also with its graph in
        squidpy's slots.

    Raises
    ------
    InputError
        If the slice cannot be used with this model.
    CheckpointError
        If the model directory cannot be used.

    Examples
    --------
    >>> import stgraph
    >>> first, second = stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)
    >>> trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2}
    >>> model = stgraph.fit(first, trainer=trainer, progress=False).pretrained
    >>> stgraph.embed(second, model).obsm["X_stgraph"].shape
    (200, 64)
    """
    pretrained = model if isinstance(model, Pretrained) else from_pretrained(model, trust=trust)
    adata = ensure_canonical(adata)
    pieces = []
    for piece in split_slices([adata]).values():
        graph = pretrained.graph(piece)
        pieces.append(annotate(piece.copy(), graph, pretrained.embed_graph(graph), pretrained))
    return pieces[0] if len(pieces) == 1 else _gather(adata, pieces)


def annotate(adata: AnnData, graph: SliceGraph, embedding: NDArray[np.float32], pretrained: Pretrained) -> AnnData:
    """Write embedding, domains, graph and parameters of one slice into ``adata``, in place.

    Parameters
    ----------
    adata
        The slice.
    graph
        Its graph, built by ``pretrained``.
    embedding
        (N, C) of its cells.
    pretrained
        The model.

    Returns
    -------
    AnnData
        The same object.
    """
    _clear(adata)
    adata.obsm[_keys.EMBEDDING] = embedding
    if pretrained.domains is not None:
        labels = pretrained.domains.predict(embedding, graph.pos).astype(str)
        every = [str(domain) for domain in range(pretrained.domains.n_domains)]
        adata.obs[_keys.DOMAIN] = pd.Categorical(labels, categories=every)
    write_slots(adata, graph, builder=pretrained.builder)
    adata.uns[_keys.STGRAPH] = dict(adata.uns[_keys.STGRAPH]) | {
        "version": __version__,
        "spacing": graph.spacing,
        # As text, for HDF5 knows neither None nor lists of dicts.
        "parameters": json.dumps(pretrained.info),
    }
    return adata


def _clear(adata: AnnData) -> None:
    """Remove results of an earlier run, which would otherwise stand beside the new ones."""
    for slots, keys in (
        (adata.obs, (_keys.DOMAIN, _keys.VIRTUAL_CELL)),
        (adata.obsm, (_keys.EMBEDDING,)),
        (adata.obsp, (_keys.CONNECTIVITIES, _keys.DISTANCES)),
        (adata.uns, (_keys.NEIGHBORS,)),
    ):
        for key in keys:
            if key in slots:
                del slots[key]


def _gather(adata: AnnData, pieces: list[AnnData]) -> AnnData:
    """Results of several slices in one copy of the AnnData they came from."""
    out = adata.copy()
    _clear(out)
    out.obsm[_keys.EMBEDDING] = np.empty((out.n_obs, pieces[0].obsm[_keys.EMBEDDING].shape[1]), dtype=np.float32)
    for piece in pieces:
        out.obsm[_keys.EMBEDDING][out.obs_names.get_indexer(piece.obs_names)] = piece.obsm[_keys.EMBEDDING]
    if _keys.DOMAIN in pieces[0].obs:
        labels = pd.concat([piece.obs[_keys.DOMAIN] for piece in pieces])
        out.obs[_keys.DOMAIN] = labels.reindex(out.obs_names)
    out.uns[_keys.STGRAPH] = {k: v for k, v in pieces[0].uns[_keys.STGRAPH].items() if k != "spacing"}
    return out
