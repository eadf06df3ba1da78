import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from solar.cli.group import solar
from solar.control.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SETTING_FLAGS = {setting.flag for setting in SETTINGS}  # docs/configuration.md has them


def commands(group: click.Group = solar, before: str = "solar") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        path = f"{before} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, path)
        else:
            yield path, command


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=[path for path, _ in commands()])
def test_every_command_and_each_of_its_flags_is_documented(path: str, command: click.Command) -> None:
    assert f"`{path}" in PAGE
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flags = {*parameter.opts, *parameter.secondary_opts}
            assert flags & SETTING_FLAGS or any(re.search(rf"`{flag}\b", PAGE) for flag in flags), parameter.opts


def test_no_command_is_documented_that_is_not_there() -> None:
    known = {path for path, _ in commands()}
    for written in re.findall(r"^\$ (?:.*\| )?(solar .*)$", PAGE, re.MULTILINE):
        assert any(written == path or written.startswith(f"{path} ") for path in known), written
