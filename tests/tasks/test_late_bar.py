import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from stgraph.tasks import late_bar
from stgraph.tasks.late_bar import LateBar


def drawn(monkeypatch, times, *, terminal):
    """What stands on the screen after 10 of 40 cells at each of these seconds."""
    screen, clock = io.StringIO(), iter([0.0, *times])
    monkeypatch.setattr(late_bar, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(late_bar, "Console", lambda **_: Console(file=screen, force_terminal=terminal, width=80))
    with LateBar(40) as bar:
        for _ in times:
            bar.advance(10)
    return screen.getvalue()


def test_who_waits_is_told_how_much_is_done(monkeypatch):
    assert "20/40" in drawn(monkeypatch, [1.0, 4.0], terminal=True)


@pytest.mark.parametrize(("times", "terminal"), [([1.0, 2.0], True), ([4.0, 5.0], False), ([0.5, 1.0, 2.0, 9.0], True)])
def test_nothing_is_drawn_for_the_quick_for_files_and_at_the_end(monkeypatch, times, terminal):
    assert "/40" not in drawn(monkeypatch, times, terminal=terminal)
