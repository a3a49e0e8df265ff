"""DGL, an optional extra, imported without traces."""

import os
from typing import Any

from stgraph.errors import InputError


def import_dgl() -> Any:
    """DGL on torch, without the file it would write into the home directory to remember that.

    Returns
    -------
    module
        ``dgl``.

    Raises
    ------
    InputError
        If it cannot be imported.

    Examples
    --------
    >>> from stgraph._dgl import import_dgl
    >>> import_dgl().__name__  # doctest: +SKIP
    'dgl'
    """
    before = os.environ.get("DGLBACKEND")
    os.environ["DGLBACKEND"] = before or "pytorch"
    try:
        import dgl  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise InputError(
            f"This needs the package 'dgl', which cannot be imported ({error}): install the extra 'dgl' with "
            "pip install 'stgraph[dgl]'."
        ) from error
    finally:
        if before is None:
            del os.environ["DGLBACKEND"]
    return dgl
