from importlib import import_module
from pathlib import Path

import pytest

from solar.control.built import is_compiled, is_editable


def test_it_is_compiled_where_the_hot_path_is_no_python_file() -> None:
    runs = import_module("solar.edge.exchange").__file__
    assert runs is not None
    assert is_compiled() is (Path(runs).suffix != ".py")


@pytest.mark.parametrize(
    ("told", "editable"),
    [
        ('{"url": "file:///solar", "dir_info": {"editable": true}}', True),
        ('{"url": "file:///solar", "dir_info": {}}', False),
        ('{"url": "https://host/solar.git", "vcs_info": {"vcs": "git"}}', False),
        (None, False),  # of an index
    ],
)
def test_an_editable_install_is_told_by_what_the_installer_wrote(
    told: str | None, editable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "solar_control-9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.4\nName: solar-control\nVersion: 9\n")
    if told is not None:
        (about / "direct_url.json").write_text(told)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_editable() is editable
