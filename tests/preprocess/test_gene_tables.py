import gzip

import pytest

from stgraph.errors import InputError
from stgraph.preprocess.gene_tables import read_table, write_table


def test_what_is_written_is_read_to_the_bit(tmp_path):
    table = {"A": 0.1 + 0.2, "B": 1e-300}
    write_table(tmp_path / "one.tsv.gz", table)
    write_table(tmp_path / "two.tsv.gz", table)
    assert {gene: float(value) for gene, value in read_table(tmp_path / "one.tsv.gz").items()} == table
    assert (tmp_path / "one.tsv.gz").read_bytes() == (tmp_path / "two.tsv.gz").read_bytes()


def test_plain_tables_windows_lines_and_repeats_are_read(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"A\t1\r\nB\t2\r\n\r\nA\t1\r\n")
    assert read_table(tmp_path / "t.tsv") == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"A\t1\nB\n", r"two tab-separated columns; line 2 has 1: \['B'\]"),
        ("t.tsv", b"A\t1\t2\n", "line 1 has 3"),
        ("t.tsv", b"A\t\n", "line 1 has 2"),
        ("t.tsv", b"A\t1\nA\t2\n", "has 'A' twice, with '1' and '2'"),
        ("t.tsv", b"\xff\xfe", "cannot be read as a table of genes"),
        ("t.tsv.gz", b"no gzip", "cannot be read as a table of genes"),
        ("t.tsv.gz", gzip.compress(b"A\t1\n" * 9, mtime=0)[:-9], "cannot be read as a table of genes"),
        ("t.pkl", b"", "is a pickle, which could run any code"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.tsv' cannot be read"):
        read_table(tmp_path / "none.tsv")


def test_a_missing_table_is_named_once(tmp_path):
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "nix.tsv")
    assert str(caught.value).count("nix.tsv") == 1
    assert "No such file" in str(caught.value)
