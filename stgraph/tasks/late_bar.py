"""A progress bar for those who wait, and nothing for those who do not have to."""

import time
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS = 3.0
"""Time after which somebody who waits at a terminal is told how long it will take."""


class LateBar(ExitStack):
    """A progress bar on standard error, if that is a terminal and only once some seconds have passed."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total, self._done, self._begin = total, 0, time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def advance(self, count: int) -> None:
        """So many cells more are embedded."""
        self._done += count
        late = time.monotonic() - self._begin > _SECONDS
        if self._bar is None and late and self._console.is_interactive and self._done < self._total:
            columns = (TextColumn("embedding cells"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = self.enter_context(Progress(*columns, console=self._console, transient=True))
            self._bar.add_task("", total=self._total)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
