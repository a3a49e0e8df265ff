"""Figures and the HTML report; nothing here needs a display or touches pyplot."""

from stgraph.plot.embedding import embedding_plot, umap_coordinates
from stgraph.plot.report import Report, SliceView, write_report
from stgraph.plot.spatial import domain_map
from stgraph.plot.training import loss_curves

__all__ = [
    "Report",
    "SliceView",
    "domain_map",
    "embedding_plot",
    "loss_curves",
    "umap_coordinates",
    "write_report",
]
