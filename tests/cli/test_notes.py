import warnings

import pytest
import typer

from stgraph.cli.notes import spoken
from stgraph.errors import StgraphWarning


def test_each_note_is_said_once_and_kept(capsys):
    with spoken() as notes:
        for _ in range(2):
            warnings.warn("look here", StgraphWarning, stacklevel=1)
        warnings.warn("and here", StgraphWarning, stacklevel=1)
        assert notes == ["look here", "and here"]
    assert capsys.readouterr().err.splitlines() == ["note: look here", "note: and here"]


def test_warnings_of_others_are_not_shown(capsys):
    with spoken() as notes:
        warnings.warn("for developers", DeprecationWarning, stacklevel=1)
        warnings.warn("for developers", UserWarning, stacklevel=1)
    assert notes == []
    assert capsys.readouterr().err == ""


def test_warnings_are_as_before_afterwards():
    filters, show = list(warnings.filters), warnings.showwarning
    with pytest.raises(ZeroDivisionError), spoken():
        raise ZeroDivisionError
    assert warnings.filters == filters
    assert warnings.showwarning is show


def test_control_c_is_said(capsys):
    with pytest.raises(typer.Exit) as stopped, spoken():
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted: nothing was written.\n"
