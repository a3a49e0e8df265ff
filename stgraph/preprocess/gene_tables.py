"""Tables of two columns: a gene, and its token, median, id or ortholog."""

import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from stgraph._files import atomic_path
from stgraph.errors import InputError


def read_table(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read tab-separated pairs, one a line, without a header.

    Parameters
    ----------
    path
        ``.tsv``, or ``.tsv.gz``.

    Returns
    -------
    dict
        In the order of the file.

    Raises
    ------
    InputError
        If there is no such file, a line has not two columns, or two lines disagree about a gene.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        raise InputError(f"'{path}' is a pickle, which could run any code: write it as two tab-separated columns.")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            pairs = [line.rstrip("\r\n").split("\t") for line in lines if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(
            f"'{path}' cannot be read as a table of genes: {getattr(error, 'strerror', None) or error}."
        ) from error
    table: dict[str, str] = {}
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2 or not pair[1]:
            raise InputError(f"'{path}' must have two tab-separated columns; line {number} has {len(pair)}: {pair}.")
        if table.setdefault(pair[0], pair[1]) != pair[1]:
            raise InputError(f"'{path}' has '{pair[0]}' twice, with '{table[pair[0]]}' and '{pair[1]}'.")
    return table


def write_table(path: str | os.PathLike[str], table: Mapping[str, object]) -> None:
    """Write what `read_table` reads, gzipped; the same table gives the same bytes.

    Parameters
    ----------
    path
        To end in ``.gz``. The file appears whole or not at all.
    table
        Floats are written so that they are read back to the bit.

    Examples
    --------
    >>> import tempfile
    >>> from stgraph.preprocess.gene_tables import read_table, write_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_table(f"{folder}/medians.tsv.gz", {"ENSG00000000003": 2.001})
    ...     read_table(f"{folder}/medians.tsv.gz")
    {'ENSG00000000003': '2.001'}
    """
    text = "".join(f"{gene}\t{value}\n" for gene, value in table.items())
    with atomic_path(path) as tmp:
        tmp.write_bytes(gzip.compress(text.encode(), mtime=0))
