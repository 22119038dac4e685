"""The summaries of a folder tell of the same rows."""

import pytest

from jaxlung.predict.batch import summary

pyarrow_parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'jaxlung[ray]'")


def close(folder, *names, parquet):
    journal = summary.Journal(folder, {"model": "m"}, {}, {})
    for name in names:
        journal.add(summary.make_row(name=name, status="ok", source=f"/{name}"))
    journal.close(names, {}, parquet=parquet)


def test_a_run_without_parquet_leaves_none_of_an_earlier_one(tmp_path):
    close(tmp_path, "1", "NA", parquet=True)
    table = pyarrow_parquet.read_table(tmp_path / summary.PARQUET)
    assert table["name"].to_pylist() == ["1", "NA"]
    close(tmp_path, "2", parquet=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [summary.CSV, summary.JSON]


def test_a_parquet_that_cannot_be_written_leaves_none_of_an_earlier_run(tmp_path, monkeypatch):
    close(tmp_path, "1", parquet=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(summary, "write_parquet", full)
    with pytest.raises(OSError, match="No space"):
        close(tmp_path, "2", parquet=True)
    assert "\n2," in (tmp_path / summary.CSV).read_text()
    assert not (tmp_path / summary.PARQUET).exists()
