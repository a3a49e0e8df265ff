import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.figure
import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.plot import Report, SliceView, write_report
from stgraph.plot._html import duration, outline, text, value_text
from stgraph.plot.palette import label_colors

EVIL = "<script>alert('x')</script>&\"'"


@pytest.fixture(autouse=True)
def _no_umap(monkeypatch):
    # UMAP takes many seconds to compile and has its own test.
    def first_two(x, *, random_state):
        keep = np.arange(min(len(x), 500))
        return np.asarray(x)[keep, :2], keep

    monkeypatch.setattr("stgraph.plot.report.umap_coordinates", first_two)


def _slice(name="one", n=40, n_domains=4, *, labels=True, unit="um", seed=0):
    rng = np.random.default_rng(seed)
    domains = (np.arange(n) % n_domains).astype(str)
    annotated = np.array(["WM", "L1", "", "L2"])[np.arange(n) % 4] if labels else None
    graph = {"cells": n, "mean degree": 5.8712, "unit": unit}
    return SliceView(
        name,
        rng.uniform(0, 1000, (n, 2)),
        unit,
        domains,
        annotated,
        graph,
        rng.uniform(1, 9, 3 * n),
        rng.integers(0, 7, n),
    )


def _report(slices=None, **changes):
    slices = [_slice(), _slice("two", 60, seed=1)] if slices is None else slices
    n_cells = sum(len(view.pos) for view in slices)
    base = Report(
        title="A run",
        command="stgraph run a.h5ad --seed 1",
        slices=slices,
        embedding=np.random.default_rng(0).normal(size=(n_cells, 5)),
        history=[{"step": i + 1, "loss": 1 / (i + 1)} for i in range(30)],
        scores=[
            {"slice": name, "method": method, "n_domains": 4, "ari": ari, "nmi": ari + 0.1}
            for name, method, ari in [
                ("one", "stgraph", 0.5123),
                ("one", "other", 0.4),
                ("two", "stgraph", 0.3001),
                ("two", "other", 0.6012),
            ]
        ],
        timings={"read": 1.5, "train": 120.0},
        settings={"genes": 1234, "model": {"heads": 4, "name": "virtual_cells"}},
        notes=["The unit of slice two is unknown."],
        environment={"stgraph": "0.1.0", "seed": "1"},
        random_state=1,
    )
    return replace(base, **changes)


@pytest.fixture
def _no_pictures(monkeypatch):
    # Most of the time goes into drawing, which tests of words and numbers do not look at.
    monkeypatch.setattr("stgraph.plot.report.picture", lambda figure, *, alt, caption="": f"<p>{caption}</p>")


class _Reader(HTMLParser):
    """Text by tag, tables as rows, and whether tags are balanced."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.images, self.headings, self.tags = [], [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h2", "h3"):
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if "h2" in self.open or "h3" in self.open:
            self.headings[-1] += data


def _write(report, tmp_path):
    path = tmp_path / "report.html"
    write_report(report, path)
    page = path.read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return page, reader


def test_the_page_is_whole_and_needs_nothing_from_outside(tmp_path):
    page, reader = _write(_report(), tmp_path)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert '<meta charset="utf-8">' in page
    assert "<title>A run</title>" in page
    assert "prefers-color-scheme: dark" in page
    for outside in ("http://", "https://", "url(", "@import", "<link", "<script", "<iframe"):
        assert outside not in page
    for image in reader.images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert image["alt"]


def test_sections_and_figures(tmp_path):
    page, reader = _write(_report(), tmp_path)
    expected = [
        "Notes", "Spatial domains", "Scores", "Embedding", "Training", "Graphs", "Timings", "Settings",
        "Environment",
    ]  # fmt: skip
    assert re.findall(r"<h2>(.*?)</h2>", page) == expected
    # Two slices by domain and annotation, three embeddings, the losses, two pairs of histograms.
    assert len(reader.images) == 4 + 3 + 1 + 2


def test_everything_written_by_others_is_escaped(tmp_path):
    view = replace(
        _slice(EVIL, n=6),
        domains=np.array([EVIL, "a", "b", "a", "b", "a"]),
        labels=np.array([EVIL, "", "c", "c", "d", "d"]),
        graph={EVIL: EVIL},
        unit=EVIL,
    )
    page, reader = _write(
        _report(
            [view],
            title=EVIL,
            command=EVIL,
            history=[{EVIL: 1.0}],
            scores=[{"slice": EVIL, "method": EVIL, "n_domains": 3, "ari": 0.5, EVIL: EVIL}],
            timings={EVIL: 1.0},
            settings={EVIL: {EVIL: [EVIL, {EVIL: EVIL}]}, "genes": EVIL},
            notes=[EVIL],
            environment={EVIL: EVIL},
            method=EVIL,
        ),
        tmp_path,
    )
    assert "script" not in reader.tags
    assert "<script" not in page
    assert any(EVIL in heading for heading in reader.headings)
    assert text(EVIL) in page


@pytest.mark.usefixtures("_no_pictures")
def test_odd_characters_can_be_written(tmp_path):
    page, _ = _write(_report([_slice("bad\udcff\x00name", n=6)]), tmp_path)
    assert "bad\ufffd\ufffdname" in page


@pytest.mark.usefixtures("_no_pictures")
def test_numbers_are_those_given(tmp_path):
    page, reader = _write(_report(), tmp_path)
    rows = {row[0]: row[1:] for row in reader.rows}
    assert rows["mean degree"] == ["5.871", "5.871"]
    assert rows["cells"] == ["40", "60"]
    assert rows["train"][0] == "2 min 00 s"
    assert rows["total"][0] == "2 min 02 s"
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts == {
        "slices": "2", "cells": "100", "genes": "1,234", "domains": "4", "training steps": "30",
        "run time": "2 min 02 s",
    }  # fmt: skip
    assert "ARI 0.512 against the annotation" in page
    assert "ARI 0.300 against the annotation" in page


@pytest.mark.usefixtures("_no_pictures")
def test_a_given_total_is_not_added_up(tmp_path):
    page, reader = _write(_report(timings={"read": 1.0, "total": 5.0}), tmp_path)
    assert [row[:2] for row in reader.rows if row[0] in ("read", "total")] == [
        ["read", "1.0 s"],
        ["total", "5.0 s"],
    ]
    assert "<dd>5.0 s</dd>" in page


@pytest.mark.usefixtures("_no_pictures")
def test_scores_mark_the_best_and_average(tmp_path):
    page, reader = _write(_report(), tmp_path)
    first = [row for row in reader.rows if row[0] in ("one", "two", "mean")][:3]
    assert first == [
        ["one", "0.512 (4)", "0.400 (4)"],
        ["two", "0.300 (4)", "0.601 (4)"],
        ["mean", "0.406", "0.501"],
    ]
    for best in ("0.512", "0.601", "0.501"):
        assert f"<b>{best}</b>" in page
    for other in ("0.400", "0.300", "0.406"):
        assert f"<b>{other}</b>" not in page


@pytest.mark.usefixtures("_no_pictures")
def test_a_mean_over_fewer_slices_says_so_and_does_not_win(tmp_path):
    scores = [
        {"slice": "one", "method": "stgraph", "n_domains": 4, "ari": 0.3},
        {"slice": "two", "method": "stgraph", "n_domains": 4, "ari": 0.4},
        {"slice": "one", "method": "other", "n_domains": 4, "ari": 0.2},
        {"slice": "one", "method": "lone", "n_domains": 4, "ari": 0.9},
        {"slice": "two", "method": "lone", "n_domains": 4, "ari": None},
        {"slice": "two", "method": "other", "n_domains": 4, "ari": 0.1},
    ]
    _, reader = _write(_report(scores=scores), tmp_path)
    rows = [row for row in reader.rows if row[0] in ("one", "two", "mean")][:3]
    assert rows[1] == ["two", "0.400 (4)", "0.100 (4)", "–"]
    assert rows[2] == ["mean", "0.350", "0.150", "0.900 (1 of 2 slices)"]
    assert "<b>0.350</b>" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("_no_pictures")
def test_less_is_better_for_some_metrics(tmp_path):
    scores = [{"slice": "one", "method": m, "chaos": c, "seconds": 3.0} for m, c in (("a", 0.02), ("b", 0.05))]
    page, reader = _write(_report(scores=scores), tmp_path)
    assert "<b>0.020</b>" in page
    assert "<b>0.050</b>" not in page
    assert "CHAOS (less is better)" in reader.headings
    assert ["one", "a", "0.02", "3"] in reader.rows


@pytest.mark.usefixtures("_no_pictures")
def test_repeats_are_averaged_and_the_caption_keeps_silent(tmp_path):
    scores = [
        {"slice": "one", "method": "stgraph", "n_domains": 4, "ari": ari, "seed": seed}
        for seed, ari in enumerate((0.2, 0.4))
    ]
    page, reader = _write(_report(scores=scores), tmp_path)
    assert ["one", "0.300 (4, mean of 2)"] in reader.rows
    assert "against the annotation" not in page


@pytest.mark.usefixtures("_no_pictures")
def test_the_caption_takes_the_row_with_as_many_domains(tmp_path):
    scores = [{"slice": "one", "method": "stgraph", "n_domains": n, "ari": ari} for n, ari in ((4, 0.25), (7, 0.75))]
    page, reader = _write(_report(scores=scores), tmp_path)
    assert "ARI 0.250 against" in page
    assert ["one", "0.500 (4–7, mean of 2)"] in reader.rows


def test_same_report_same_bytes(tmp_path):
    first = write_report(_report(), tmp_path / "a.html").read_bytes()
    assert first == write_report(_report(), tmp_path / "b.html").read_bytes()


def test_only_what_there_is(tmp_path):
    report = _report(
        [replace(_slice(labels=False), graph={}, edge_lengths=None, degrees=None)],
        command="", history=[], scores=[], timings={}, settings={}, notes=[], environment={},
    )  # fmt: skip
    page, reader = _write(report, tmp_path)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Spatial domains", "Embedding"]
    assert len(reader.images) == 2
    assert "Annotation" not in page
    assert "<table>" not in page


def test_one_slice_with_labels_beside_one_without(tmp_path):
    page, reader = _write(_report([_slice(), _slice("two", labels=False)]), tmp_path)
    assert sum("annotated label" in image["alt"] for image in reader.images) == 1
    assert page.count("<b>Annotation</b>, 30 labelled cells") == 1
    assert "no label" in page


@pytest.mark.usefixtures("_no_pictures")
def test_all_labels_missing_is_no_annotation(tmp_path):
    page, _ = _write(_report([replace(_slice(), labels=np.full(40, ""))]), tmp_path)
    assert "Annotation" not in page


@pytest.mark.usefixtures("_no_pictures")
def test_sixty_domains_have_sixty_colours(tmp_path):
    page, _ = _write(_report([_slice(n=120, n_domains=60, labels=False)]), tmp_path)
    found = re.findall(r'<li><i style="background:(#\w+)"></i>(\d+)</li>', page)
    chips = {label: color for color, label in found}
    assert chips == label_colors(map(str, range(60)))
    assert len(set(chips.values())) == 60


def test_a_single_cell(tmp_path, monkeypatch):
    monkeypatch.undo()
    page, reader = _write(_report([_slice(n=1, labels=False), _slice("two", n=2, labels=False)]), tmp_path)
    assert "First two principal components" in page
    assert "1 cell, 1 domain<" in page
    assert len(reader.images) == 2 + 2 + 1 + 2


@pytest.mark.usefixtures("_no_pictures")
def test_a_sample_of_cells_is_said(tmp_path):
    page, _ = _write(_report([_slice(n=600)]), tmp_path)
    assert "500 of 600 cells" in page


def test_two_ordinary_slices_stay_small(tmp_path):
    x, y = np.meshgrid(np.arange(64.0), np.arange(64.0))
    pos = np.c_[x.ravel(), y.ravel()] * 100
    rng = np.random.default_rng(0)
    slices = [
        replace(
            _slice(name),
            pos=pos,
            domains=rng.integers(0, 20, 4096).astype(str),
            labels=rng.integers(0, 20, 4096).astype(str),
        )
        for name in ("one", "two")
    ]
    write_report(_report(slices), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")

    def fail(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report(_report(), path)
    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report(_report(), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made(tmp_path):
    path = write_report(_report([_slice(n=4)]), str(tmp_path / "new" / "report.html"))
    assert path == tmp_path / "new" / "report.html"
    assert path.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": []}, "at least one slice"),
        ({"embedding": np.zeros((3, 2))}, "100 cells but the embedding has 3"),
        ({"slices": [replace(_slice(), domains=np.array(["a"]))]}, "40 positions but 1 domains"),
        ({"slices": [replace(_slice(), labels=np.array(["a"]))]}, "40 positions but 1 labels"),
    ],
)
def test_parts_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        write_report(replace(_report(), **changes), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"), (np.int64(12), "12"), (0.123456, "0.1235"), (123456.7, "123,457"),
        (float("nan"), "–"), (None, "–"), (True, "yes"), ("a<b", "a&lt;b"), (np.float32(0.5), "0.5"),
    ],
)  # fmt: skip
def test_values_of_tables(value, shown):
    assert value_text(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86399, "24 h 00 min"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_settings_read_like_yaml():
    settings = {
        "empty": {}, "none": None, "on": True, "rate": 1e-3, "text": "plain words", "odd": "a: b",
        "number": "12", "flag": "yes", "list": [1, "two"], "nested": {"deep": {"x": 1}},
        "items": [{"a": 1, "b": [1]}, {"a": {"c": 2}}],
    }  # fmt: skip
    assert outline(settings).splitlines() == [
        "empty: {}", "none: null", "on: true", "rate: 0.001", "text: plain words", 'odd: "a: b"',
        'number: "12"',
        'flag: "yes"', "list: [1, two]", "nested:", "  deep:", "    x: 1", "items:", "  - a: 1", "    b: [1]",
        "  - a:", "      c: 2",
    ]  # fmt: skip


def test_the_caption_is_of_the_domains_on_the_map():
    from stgraph.plot._scores import score_caption

    again = {"slice": "a", "method": "stgraph", "n_domains": 7, "ari": 0.3}
    written = {"slice": "a", "method": "stgraph as written", "n_domains": 8, "ari": 0.2}
    assert "0.200" in score_caption([again, written], "stgraph", "a", 8)
    assert "ARI" not in score_caption([again], "stgraph", "a", 8)  # seven domains that are not on the page
    assert "0.300" in score_caption([again], "stgraph", "a", 7)
    assert "ARI" not in score_caption([again, written], "stgraph", "b", 8)
