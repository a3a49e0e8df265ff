"""What verbs share that run for long: a progress bar, and a word about what stays when they are stopped."""

import errno
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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
