"""Layers: tensors in, tensors out.

The operator has the name of the package it lives in: ``stgraph.nn.edge_attention`` is the function, and
``from stgraph.nn.edge_attention import ...`` finds the package all the same.
"""

from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.edge_attention.op import edge_attention

__all__ = ["EdgeGraph", "edge_attention"]
