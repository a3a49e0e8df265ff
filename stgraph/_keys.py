"""Every AnnData slot stgraph reads or writes, with its shape and type.

Letters are those of ``docs/notation.md``: N cells, G genes, C channels.
"""

# What a canonical slice carries -------------------------------------------------------
SPATIAL = "spatial"
"""``obsm``, (N, 2) float64: positions, in microns once ``uns["stgraph"]["um_per_unit"]`` is known."""

SLICE = "slice_id"
"""``obs``, (N,) category: the tissue section a cell belongs to."""

# squidpy's own slots, so that its tools run on our graphs and ours on its ------------
CONNECTIVITIES = "spatial_connectivities"
"""``obsp``, (N, N) CSR float32: 1 where two cells are neighbours."""

DISTANCES = "spatial_distances"
"""``obsp``, (N, N) CSR float64: edge length in the unit of ``obsm["spatial"]``; explicit zeros are edges."""

NEIGHBORS = "spatial_neighbors"
"""``uns``, dict: the keys of the two slots above and the builder's parameters."""

# What stgraph adds -------------------------------------------------------------------
EMBEDDING = "X_stgraph"
"""``obsm``, (N, C) float32: the embedding of a cell."""

DOMAIN = "stgraph_domain"
"""``obs``, (N,) category of str: the spatial domain of a cell."""

VIRTUAL_CELL = "stgraph_virtual_cell"
"""``obs``, (N,) category of str: the Leiden virtual cell a cell is a member of; coarser levels are numbered from 2."""

PREDICTION = "stgraph_predicted_{target}"
"""``obs``, (N,) category of str, the predicted class; or ``obsm``, (N, D) float32, predicted values.

Missing where a cell was not judged.
"""

CONFIDENCE = "stgraph_predicted_{target}_confidence"
"""``obs``, (N,) float32: probability of the predicted class."""

IMPUTED = "stgraph_imputed"
"""``obsm``, DataFrame (N, genes): log counts that were told; and ``uns``, how well each gene is told."""

CLUSTER = "stgraph_cluster_{clusterer}"
"""``obs``, (N,) category of str: the cluster of a cell."""

STGRAPH = "stgraph"
"""``uns``, dict: version, parameters and units; see the keys below."""

UM_PER_UNIT = "um_per_unit"
"""``uns["stgraph"]``, float: microns per unit of the coordinates as they were read; NaN if unknown."""

UNIT = "unit"
"""``uns["stgraph"]``, str: unit of ``obsm["spatial"]`` now, ``"um"`` or ``"unknown"``."""

UNIT_SOURCE = "unit_source"
"""``uns["stgraph"]``, str: who said so: ``"option"``, ``"file"``, ``"visium array"`` or ``"none"``."""
