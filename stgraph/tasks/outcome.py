"""What every training of a graph model ends with: embeddings, domains, and slices that carry them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError, TrainingError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.tasks.domains import DomainFinder
from stgraph.tasks.embed import annotate
from stgraph.tasks.pretrained import Pretrained


def check_run(slices: Mapping[str, AnnData], domains: DomainFinder | None, num_hops: int, random_state: int) -> None:
    """Refuse before hours of training what could not be ended.

    Parameters
    ----------
    slices
        By name.
    domains
        Who will find domains, if anyone.
    num_hops, random_state
        Of the run.

    Raises
    ------
    InputError
        If a number is none, or there are fewer cells than domains.
    """
    for name, value in (("num_hops", num_hops), ("random_state", random_state)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(f"{name} must be a whole number, 0 or more, not {value!r}.")
    num_cells, n_domains = sum(adata.n_obs for adata in slices.values()), getattr(domains, "n_domains", 0)
    if num_cells < n_domains:
        raise InputError(f"{num_cells} cells cannot be split into {n_domains} domains: ask for fewer.")


def embed_graphs(pretrained: Pretrained, graphs: Mapping[str, SliceGraph]) -> dict[str, NDArray[np.float32]]:
    """Embeddings (N, C) of the cells of each slice.

    Raises
    ------
    TrainingError
        If they are not finite.
    """
    embeddings = {name: pretrained.embed_graph(graph) for name, graph in graphs.items()}
    if not all(np.isfinite(embedding).all() for embedding in embeddings.values()):
        raise TrainingError("Training ran away: embeddings are not finite. Try a smaller lr of the trainer.")
    return embeddings


def find_domains(
    pretrained: Pretrained,
    domains: DomainFinder | None,
    graphs: Mapping[str, SliceGraph],
    embeddings: Mapping[str, NDArray[np.float32]],
) -> None:
    """Let the model know the domains of its slices, if anyone is to find them."""
    if domains is not None:
        pretrained.domains = domains.fit(list(embeddings.values()), [graph.pos for graph in graphs.values()])


def annotated(
    slices: Mapping[str, AnnData],
    graphs: Mapping[str, SliceGraph],
    embeddings: Mapping[str, NDArray[np.float32]],
    pretrained: Pretrained,
    *,
    random_state: int,
    **info: Any,
) -> dict[str, AnnData]:
    """Copies of the slices with their results; the model is told what it was trained on.

    Parameters
    ----------
    slices, graphs, embeddings
        By name.
    pretrained
        The model; its ``info`` is written.
    random_state
        Of the run.
    info
        What else the model is to remember.

    Returns
    -------
    dict of AnnData
        By name.
    """
    pretrained.info = {
        "slices": list(slices),
        "num_cells": sum(adata.n_obs for adata in slices.values()),
        "random_state": random_state,
        **info,
    }
    return {name: annotate(adata.copy(), graphs[name], embeddings[name], pretrained) for name, adata in slices.items()}
