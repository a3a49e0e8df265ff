"""Options, usage and exit codes."""

import pytest

import stgraph
from stgraph.cli.main import main

TINY = ["--steps", "1", "--set", "encoder.n_components=8", "--set", "domains.n_init=1"]


def test_version(cli):
    result = cli("--version")
    assert (result.code, result.out.strip()) == (0, f"stgraph {stgraph.__version__}")


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("embed", "--help"), ("demo", "--help")])
def test_help(cli, arguments):
    result = cli(*arguments)
    assert result.code == 0
    assert "Usage" in result.out


def test_help_names_every_verb(cli):
    said = cli("--help").out
    assert all(verb in said for verb in ("fit", "embed", "demo", "corpus", "doctor"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("nix",),
        ("fit",),
        ("fit", "a.h5ad"),
        ("fit", "a.h5ad", "--out", "o", "--nix"),
        ("fit", "a.h5ad", "--out", "o", "--steps", "0"),
        ("fit", "a.h5ad", "--out", "o", "--steps", "abc"),
        ("fit", "a.h5ad", "--out", "o", "--seed", "-1"),
        ("fit", "a.h5ad", "--out", "o", "--n-domains", "0"),
        ("fit", "a.h5ad", "--out", "o", "--device", "abacus"),
        ("embed", "a.h5ad", "b.h5ad", "--model", "m", "--out", "o.h5ad"),
        ("embed", "a.h5ad", "--out", "o.h5ad"),
        ("demo", "--cells", "5"),
    ],
)
def test_what_typer_refuses(cli, tmp_path, arguments):
    result = cli(*arguments)
    assert result.code == 2
    assert "Error" in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_verb_it_helps(cli):
    result = cli()
    assert "Usage" in result.out + result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_um_per_unit_must_be_a_length(refused, files, value):
    message = refused("fit", files[0], "--out", "out", "--um-per-unit", value)
    assert "--um-per-unit must be a positive number" in message


def test_um_per_unit_must_be_understood(refused, files):
    fit, embed = ("fit", *files, "--out", "o"), ("embed", files[0], "--model", "m", "--out", "o.h5ad")
    for start in (fit, embed):
        assert "takes a number or NAME=NUMBER, not 'abc'" in refused(*start, "--um-per-unit", "abc")
        assert "not 'first='" in refused(*start, "--um-per-unit", "first=")
        assert "no slice file is called 'nix'; there are: first" in refused(*start, "--um-per-unit", "nix=2")


def test_demo(cli, tmp_path):
    result = cli("demo", "--cells", "150", *TINY)
    assert result.code == 0, result.err
    names = {file.name for file in (tmp_path / "demo").iterdir()}
    assert {"synthetic_0.h5ad", "synthetic_1.h5ad", "scores.csv", "report.html"} <= names


def test_the_machines_own_errors_are_one_sentence_too(cli, files, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stgraph.cli.run.write_h5ad", full)
    result = cli("fit", files[0], "--out", "out", *TINY)
    assert result.code == 1
    assert result.err.splitlines()[-1] == "error: [Errno 28] No space left on device; nothing was written."
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_ours_is_not_hidden(cli, files, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("stgraph.cli.run.write_report", broken)
    monkeypatch.setattr("sys.argv", ["stgraph", "fit", str(files[0]), "--out", "out", *TINY])
    with pytest.raises(ZeroDivisionError):
        main()
    assert list(tmp_path.iterdir()) == []


def test_notes_are_said_once(cli, files):
    result = cli("fit", files[1], files[1].with_name("third.h5ad"), "--out", "out", *TINY)
    assert result.code == 0
    assert result.err.count("note: second: the unit of the coordinates is unknown") == 1
    assert "note: third" not in result.err


def test_no_gpu_is_said(refused, files, monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU")
    assert "--device" in refused("fit", files[0], "--out", "out", *TINY, "--device", "gpu")


def test_termination_leaves_as_tidily_as_control_c(tmp_path, capsys):
    from stgraph._files import atomic_dir
    from stgraph.cli.main import _terminated

    with pytest.raises(SystemExit) as stop, atomic_dir(tmp_path / "new" / "out") as folder:
        (folder / "half").touch()
        _terminated()
    assert stop.value.code == 143
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
