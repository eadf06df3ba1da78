import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import solar
from solar import Router
from solar.control.api.table import OPERATIONS
from solar.core.headers import TO_BACKENDS
from solar.core.paths import ENDPOINTS, locate

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_path_that_the_architecture_names_exists_and_every_module_is_named() -> None:
    named = set(re.findall(r"`(src/solar/[\w/.]*)`", text("ARCHITECTURE.md")))
    assert [path for path in named if not (ROOT / path).exists()] == []
    rooms = {
        str(path.relative_to(ROOT))
        for room in ("core", "edge", "config", "discovery")
        for path in (ROOT / "src/solar" / room).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert rooms - named == set()


def test_every_endpoint_is_documented_and_every_documented_one_is_there() -> None:
    rows = re.findall(r"^\| `(/[^|]*)` \| `(/\S+)` \|", text("docs/api.md"), re.MULTILINE)
    documented = {locate(path).endpoint for spellings, _ in rows for path in re.findall(r"/[\w/]+", spellings)}
    assert documented == set(ENDPOINTS.values())
    for spellings, upstream in rows:
        endpoint = locate(re.findall(r"/[\w/]+", spellings)[0]).endpoint
        assert endpoint is not None
        assert upstream == ("/v1" if endpoint.versioned else "") + endpoint.upstream


def test_every_route_of_the_management_is_documented_and_every_documented_one_is_there() -> None:
    documented = re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^`]*)` \|", text("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted((operation.method, operation.path) for operation in OPERATIONS)


def test_every_header_that_reaches_a_backend_is_documented() -> None:
    (sentence,) = re.findall(r"Backends see of a client's head: (.*?)\. Never", text("docs/api.md"), re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", sentence)) == {name.decode() for name in TO_BACKENDS} | {"x-request-id"}


def test_every_error_code_is_documented() -> None:
    codes = set()
    for path in (ROOT / "src/solar").glob("**/*.py"):
        if "testing" not in path.parts:
            source = path.read_text(encoding="utf-8")
            codes |= set(re.findall(r"\bcode(?:: str \| None)? ?= ?\"(\w+)\"", source))
            codes |= set(re.findall(r"_(?:cut|broken)\(now, \"(\w+)\"", source))
    documented = text("docs/api.md")
    assert [code for code in sorted(codes - {"invalid_backend"}) if f"`{code}`" not in documented] == []


def test_the_mount_example_of_the_readme_is_an_application() -> None:
    (snippet,) = re.findall(r"<!-- example: mount -->\n```python\n(.*?)```", text("README.md"), re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)  # noqa: S102  # it is our own README
    assert {"router", "app"} <= names.keys()


def test_no_file_names_a_path_of_the_machine_that_it_was_written_on() -> None:
    suspicious = re.compile("/wor" + "k/|/tm" + "p/dev|/roo" + "t/")
    sources = [p for d in ("src", "docs", "examples", "scripts", "requirements") for p in (ROOT / d).glob("**/*")]
    found = [
        p
        for p in [*sources, *PAGES]
        if p.is_file() and "__pycache__" not in p.parts and suspicious.search(p.read_text("utf-8"))
    ]
    assert found == []


def test_every_argument_of_the_router_is_documented() -> None:
    page = text("docs/library.md")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert [name for name in inspect.signature(Router).parameters if name not in named] == []
    members = {name for name in vars(Router) if not name.startswith("_")}
    assert [name for name in sorted(members) if f"`{name}" not in page and f"await {name}(" not in page] == []


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", text("docs/library.md"), re.DOTALL))
async def test_the_snippets_of_the_library_page_run(snippet: str) -> None:
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102  # it is our own page
    if "example" in names:
        await names["example"]()


def test_every_public_name_is_there_and_what_finds_backends_is_documented() -> None:
    assert [name for name in solar.__all__ if not hasattr(solar, name)] == []
    page = text("docs/library.md")
    assert [name for name in solar._LATER if name not in page] == []
