"""Names of the node and edge types of a slice graph in PyG."""

EdgeType = tuple[str, str, str]
"""Source, relation, target."""

NEAR = ("cell", "near", "cell")
"""Cells that are neighbours."""

MEMBER_OF = ("cell", "member_of", "virtual")
"""A cell and the virtual cell it belongs to."""

HAS_MEMBER = ("virtual", "has_member", "cell")
"""The reverse of `MEMBER_OF`."""

TO_CELL = ("virtual", "informs", "cell")
"""Every virtual cell is visible to every cell, at its true distance."""

TO_VIRTUAL = ("cell", "informs", "virtual")
"""The reverse of `TO_CELL`."""

VIRTUAL_NEAR = ("virtual", "near", "virtual")
"""All pairs of virtual cells."""


AT_CELLS = (NEAR, MEMBER_OF, HAS_MEMBER, TO_CELL, TO_VIRTUAL)
"""Edge types with a cell at one end: their lengths change when cells move."""


def level_name(level: int) -> str:
    """Node type of a level of virtual cells: ``"virtual"``, ``"virtual2"``, ...

    Parameters
    ----------
    level
        1 for the virtual cells of cells, 2 for virtual cells of these, and so on.

    Returns
    -------
    str
        The node type; level 0 is ``"cell"``.

    Examples
    --------
    >>> from stgraph.data.edge_types import level_name
    >>> [level_name(level) for level in range(3)]
    ['cell', 'virtual', 'virtual2']
    """
    return ("cell", "virtual")[level] if level < 2 else f"virtual{level}"
