"""Small JSON files that appear whole or not at all and show any changed byte."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stgraph._files import atomic_path
from stgraph.errors import StoreError

_MEND = "run 'stgraph corpus build' with the same files again"


def write_document(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what JSON can hold, with its hash.

    Parameters
    ----------
    path
        The file; replaced once the new one is complete.
    content
        A mapping without the key ``checksum``.
    """
    with atomic_path(path) as tmp:
        whole = {**content, "checksum": fingerprint(content)}
        tmp.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_document` wrote.

    Raises
    ------
    StoreError
        If the file is missing or has changed.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read ({error.strerror or error}): {_MEND}.") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"'{path}' is damaged ({error}): {_MEND}.") from error
    if not isinstance(content, dict) or content.pop("checksum", None) != fingerprint(content):
        raise StoreError(f"'{path}' is damaged, it has changed since it was written: {_MEND}.")
    return content


def fingerprint(content: Any) -> str:
    """Hash of what JSON can hold, the same whatever the order of its keys.

    Examples
    --------
    >>> from stgraph.data.documents import fingerprint
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
