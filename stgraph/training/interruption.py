"""Being asked to stop, by Ctrl-C or a batch system, and stopping at the end of a step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interruption:
    """Whether somebody asked, and what happens then.

    Attributes
    ----------
    asked
        Whether to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._signal: int = signal.SIGTERM
        self._before: dict[int, Any] = {}

    def stop(self) -> None:
        """End as the handler does that was there before, or else with an exit status: 143 after SIGTERM."""
        handler: Callable[[int, FrameType | None], Any] | int | None = signal.getsignal(self._signal)
        if callable(handler):
            handler(self._signal, None)
        raise SystemExit(128 + self._signal)

    def catch(self) -> None:
        """Note signals from now on, unless they are ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN and before is not None:
                self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked, self._signal = True, number
        # Whoever asks twice is in a hurry.
        self.restore()


@contextmanager
def interruptions(*, caught: bool) -> Iterator[Interruption]:
    """Note Ctrl-C and SIGTERM, and let them have their effect at the end; a second one has it at once.

    Parameters
    ----------
    caught
        If false, or outside of the main thread, where Python gives no signals, nothing is noted.

    Yields
    ------
    Interruption
        What was noted.

    Examples
    --------
    >>> import os, signal
    >>> from stgraph.training.interruption import interruptions
    >>> try:
    ...     with interruptions(caught=True) as interruption:
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...         print("asked to stop:", interruption.asked)
    ... except SystemExit as end:
    ...     print("exit status", end.code)
    asked to stop: True
    exit status 143
    """
    interruption = Interruption()
    if caught and threading.current_thread() is threading.main_thread():
        interruption.catch()
    try:
        yield interruption
    finally:
        interruption.restore()
    if interruption.asked:
        interruption.stop()
