"""The page as a folder: whole, in the place of an earlier one, and never among other files."""

from pathlib import Path

import pytest

import jaxlung
from jaxlung.errors import InputError
from jaxlung.export.formats import FORMATS


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(workdir, tmp_path, monkeypatch):
    out = tmp_path / "site"
    said = jaxlung.export_model(workdir, out=out, format="html-site")
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(files) == set(FORMATS["html-site"].files)
    assert f"{sum(map(len, files.values())) / 1e6:.1f} MB" in said
    for path in out.iterdir():
        path.write_bytes(b"of an earlier model")

    with monkeypatch.context() as patch:
        write = Path.write_bytes

        def fail(path, data):
            if path.name == "worker.js":
                raise OSError("the disk is full")
            return write(path, data)

        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="disk is full"):
            jaxlung.export_model(workdir, out=out, format="html-site", overwrite=True)
    assert {path.read_bytes() for path in out.iterdir()} == {b"of an earlier model"}
    assert [path.name for path in tmp_path.iterdir()] == ["site"]

    jaxlung.export_model(workdir, out=out, format="html-site", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which --overwrite would remove"):
        jaxlung.export_model(workdir, out=out, format="html-site", overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
