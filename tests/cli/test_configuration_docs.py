import re
from pathlib import Path

import pytest

from solar.config.fields import Field, fields_of, shown
from solar.config.tables import BackendTable, TimeoutsTable
from solar.control.configfile import ImageRuleTable
from solar.control.configuration import load
from solar.control.settings import SETTINGS, Setting
from solar.control.words import KINDS
from solar.core.backend import Timeouts
from solar.discovery.docker.images import BUILT_IN
from solar.discovery.docker.labels import NAMES

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "solar.toml"


def row_of_setting(setting: Setting) -> str:
    flag = f"`{setting.flag}`"
    if isinstance(setting.field.default, bool):
        flag += f", `{setting.flag.replace('--', '--no-', 1)}`"
    variables = ", ".join(f"`{name}`" for name in (setting.variable, setting.plain) if name)
    key = f"`{setting.key}`" if setting.key else "none"
    return f"| {key} | {flag} | {variables} | {default_of(setting.field)} | {setting.field.meaning} |"


def row_of_key(field: Field, default: object = None) -> str:
    return f"| `{field.name}` | {default_of(field) if default is None else default} | {field.meaning} |"


def default_of(field: Field) -> str:
    default = shown(field)
    return default if default in ("none", "required") else f"`{default}`"


def rows() -> list[str]:
    limits = Timeouts()
    return [
        *map(row_of_setting, SETTINGS),
        *map(row_of_key, fields_of(BackendTable).values()),
        *(
            row_of_key(field, "none" if (limit := getattr(limits, name)) is None else f"`{limit:g}`")
            for name, field in fields_of(TimeoutsTable).items()
        ),
        *map(row_of_key, fields_of(ImageRuleTable).values()),
    ]


def tables() -> list[list[str]]:
    """The tables of the page, each with its heading first."""
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", DOCS, re.MULTILINE)]


def test_every_setting_is_documented_as_it_is_and_nothing_else() -> None:
    documented = [row for heading, _, *rows in tables() if "| Default |" in heading for row in rows]
    wanted = rows()
    told = "\n".join(wanted)
    assert documented == wanted, f"the rows should be:\n{told}"


def test_every_word_of_discover_is_documented() -> None:
    page = "".join(row for heading, _, *rows in tables() if heading.startswith("| Word |") for row in rows)
    assert [kind for kind in KINDS if f"`{kind}" not in page] == []


def test_every_label_is_documented() -> None:
    page = "".join(row for heading, _, *rows in tables() if heading.startswith("| Label |") for row in rows)
    assert sorted(re.findall(r"`solar\.(\w+)`", page)) == sorted(NAMES)


def test_every_known_image_is_documented() -> None:
    assert [rule.pattern for rule in BUILT_IN if rule.pattern.rstrip("*").split("/")[-1] not in DOCS] == []


def test_every_key_of_a_backend_is_in_the_example() -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    for name in (*fields_of(BackendTable), *fields_of(TimeoutsTable)):
        assert re.search(rf"^#? ?\[?(backends\.)?{name}\b", example, re.MULTILINE), name


def test_the_example_is_right() -> None:
    configuration = load({"config": str(EXAMPLE)}, {}, EXAMPLE.parent)
    assert [backend.id for backend in configuration.backends] == ["left", "right"]


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL))
def test_every_toml_block_of_the_docs_is_right(block: str, tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(block, encoding="utf-8")
    configuration = load({}, {}, tmp_path)
    assert configuration.backends or configuration.discover
