"""Code of others, run without its chatter and without a trace in the global state it draws from."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch

from stgraph.errors import InputError, StgraphWarning

_CHATTY = ("novae", "lightning.pytorch", "lightning.fabric")

_KNOWN_BETTER = ("coordinates are not in microns",)
"""What Novae guesses of any Visium slice, and what the unit of a slice tells better."""


def import_novae() -> Any:
    """Novae, an optional extra.

    Returns
    -------
    module
        ``novae``.

    Raises
    ------
    InputError
        If it cannot be imported.

    Examples
    --------
    >>> from stgraph.tasks.novae_quiet import import_novae
    >>> import_novae().__name__  # doctest: +SKIP
    'novae'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import novae  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise InputError(
            f"This needs the package 'novae', which cannot be imported ({error}): install the extra 'novae' with "
            "pip install 'stgraph[novae]'."
        ) from error
    return novae


@contextmanager
def borrowed(random_state: int, name: str) -> Iterator[None]:
    """Run Novae: seeded, silent, and with its refusals as ours.

    The generators of numpy and torch are seeded within, and afterwards are as they were.
    Progress bars and notes are dropped; what Novae warns of is said as a `StgraphWarning`.

    Parameters
    ----------
    random_state
        Seed.
    name
        Of what is worked on, for messages.

    Raises
    ------
    InputError
        In place of an ``AssertionError``, which is how Novae refuses data.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.novae_quiet import borrowed
    >>> with borrowed(0, "a slice"):
    ...     print("not seen")
    """
    heard = _Listener()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        for logger in map(logging.getLogger, _CHATTY):
            stack.enter_context(_heard_by(logger, heard))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(random_state)
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 - what Novae draws from
        np.random.seed(random_state)  # noqa: NPY002
        try:
            yield
        except AssertionError as error:
            raise InputError(f"{name}: Novae refuses it: {error}") from error
    for message in dict.fromkeys(heard.messages):
        warnings.warn(f"{name}: Novae warns: {message}", StgraphWarning, stacklevel=4)


@contextmanager
def _heard_by(logger: logging.Logger, listener: logging.Handler) -> Iterator[None]:
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [listener], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate


class _Listener(logging.Handler):
    """Keeps what Novae warns of; warnings of Lightning are about speed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if record.name.startswith("novae") and not any(known in message for known in _KNOWN_BETTER):
            self.messages.append(message)
