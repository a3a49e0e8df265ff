import io
import json

from rich.console import Console

from stgraph.training.tracking import json_lines, progress_bar

RECORD = {"step": 1, "epoch": 1, "loss": 1.5, "masked_cell": 0.25, "lr": 0.1, "cells_per_second": 12345.0}


def test_each_line_is_there_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with json_lines(path) as write:
        write(RECORD)
        assert json.loads(path.read_text()) == RECORD
        write(RECORD | {"step": 2})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_bar_shows_losses_and_speed():
    out = io.StringIO()
    with progress_bar(1, console=Console(file=out, force_terminal=True, width=200)) as show:
        show(RECORD)
    text = out.getvalue()
    assert "masked_cell 0.250" in text
    assert "12,345 cells/s" in text
    assert "1/1" in text
