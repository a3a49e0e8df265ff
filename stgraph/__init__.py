"""stgraph: graph neural networks for spatial-transcriptomics foundation models.

The names below load on first use, so that ``import stgraph`` stays instant and
does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stgraph._version import __version__

_HOME = {
    "read": "stgraph.io.read",
    "synthetic_tissue": "stgraph.io.synthetic",
    "build_graph": "stgraph.graph.build",
    "build_graphs": "stgraph.graph.build",
    "spatial_neighbors": "stgraph.graph.neighbors",
    "fit": "stgraph.tasks.fit",
    "embed": "stgraph.tasks.embed",
    "from_pretrained": "stgraph.tasks.pretrained",
    "transfer_labels": "stgraph.tasks.transfer",
    "niche_labels": "stgraph.tasks.niches",
    "suggest_n_domains": "stgraph.tasks.stability",
    "impute": "stgraph.tasks.impute",
    "deconvolve": "stgraph.tasks.deconvolve",
    "StgraphError": "stgraph.errors",
    "InputError": "stgraph.errors",
}

__all__ = [  # noqa: PLE0604  the names are the keys above
    "__version__",
    *_HOME,
]

if TYPE_CHECKING:
    from stgraph.errors import InputError as InputError
    from stgraph.errors import StgraphError as StgraphError
    from stgraph.graph.build import build_graph as build_graph
    from stgraph.graph.build import build_graphs as build_graphs
    from stgraph.graph.neighbors import spatial_neighbors as spatial_neighbors
    from stgraph.io.read import read as read
    from stgraph.io.synthetic import synthetic_tissue as synthetic_tissue
    from stgraph.tasks.deconvolve import deconvolve as deconvolve
    from stgraph.tasks.embed import embed as embed
    from stgraph.tasks.fit import fit as fit
    from stgraph.tasks.impute import impute as impute
    from stgraph.tasks.niches import niche_labels as niche_labels
    from stgraph.tasks.pretrained import from_pretrained as from_pretrained
    from stgraph.tasks.stability import suggest_n_domains as suggest_n_domains
    from stgraph.tasks.transfer import transfer_labels as transfer_labels


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'stgraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
