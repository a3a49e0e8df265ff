"""Attention along the edges of a graph, with a bias and a pair state."""

from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.edge_attention.op import edge_attention

__all__ = ["EdgeGraph", "edge_attention"]
