"""What verbs share that run for long: a progress bar, and a word about what stays when they are stopped."""

import errno
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stgraph.data.jobs import Progress


class _Terminated(BaseException):
    """The batch system wants us to end."""


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Say what an interrupted job leaves.

    Parameters
    ----------
    out
        Where the job writes.
    """

    def terminate(*_: object) -> None:
        raise _Terminated

    stays = "what is done stays; run the same command again to go on."
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, _Terminated) as stopped:
        terminated = isinstance(stopped, _Terminated)
        typer.secho(f"{'terminated' if terminated else 'interrupted'}: {stays}", fg="red", err=True)
        raise typer.Exit(143 if terminated else 130) from None
    except OSError as error:
        where = f"'{out}' cannot be written ({error})" if _of_output(error, out) else str(error)
        typer.secho(f"error: {where}: see to that; {stays}", fg="red", err=True)
        raise typer.Exit(1) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _of_output(error: OSError, out: Path) -> bool:
    """Whether it is what is written that fails, not what is read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return True
    if not isinstance(error.filename, str | os.PathLike):
        return False
    path, folder = Path(error.filename).absolute(), out.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


@contextmanager
def bar(texts: Mapping[str, str]) -> Iterator["Progress"]:
    """Draw progress on a terminal, nothing into a log.

    Parameters
    ----------
    texts
        What each stage is called beside its bar.

    Yields
    ------
    Progress
        To be called with stage, done and total.
    """
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, Any] = {}
    console = Console(stderr=True)
    if not console.is_interactive:  # the log of a batch job
        yield lambda stage, done, total: None
        return
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(texts[stage])
            bar.update(tasks[stage], completed=done, total=total)

        yield tell


@contextmanager
def counted(texts: Mapping[str, str]) -> Iterator["Progress"]:
    """Show progress, in a log too, and say how far it came where it is stopped.

    Parameters
    ----------
    texts
        What each stage is called.

    Yields
    ------
    Progress
        To be called with stage, done and total; the first call of a stage says what was there before.
    """
    from rich.console import Console  # noqa: PLC0415  slow to import

    on_terminal = Console(stderr=True).is_interactive
    last: list[str] = []
    begin: dict[str, tuple[float, int]] = {}
    with bar(texts) as shown:

        def tell(stage: str, done: int, total: int) -> None:
            shown(stage, done, total)
            now = perf_counter()
            since, before = begin.setdefault(stage, (now, done))
            last[:] = [f"{texts[stage]}: {done:,} of {total:,} done"]
            if on_terminal:
                return
            left = ""
            if before < done < total:
                left = f", about {_duration((now - since) / (done - before) * (total - done))} left"
            typer.echo(last[0] + left, err=True)

        try:
            yield tell
        except (KeyboardInterrupt, _Terminated):
            if last:
                typer.echo(last[0], err=True)
            raise


def number(count: int, what: str) -> str:
    """``1 point``, ``2 points``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
