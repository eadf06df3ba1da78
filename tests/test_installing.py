"""What scripts/_compile.py decides where a wheel of Solar is built."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_compile", ROOT / "scripts/_compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs(hook: ModuleType) -> list[str]:
    return list(hook.Compile(str(ROOT), {}, None, None, str(ROOT), "wheel").dependencies())


def test_every_module_that_is_compiled_is_there(hook: ModuleType) -> None:
    named = [Path(folder, f"{name}.py") for folder, names in hook.MODULES.items() for name in names.split()]
    assert [path for path in named if not (ROOT / "src/solar" / path).exists()] == []


def test_what_compiles_is_what_the_tests_were_run_with(hook: ModuleType) -> None:
    pinned = (ROOT / "requirements/test.txt").read_text(encoding="utf-8")
    assert [need for need in hook.NEEDS if f"\n{need.replace('[mypyc]', '')} " not in pinned] == []


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_that_works_nothing_is_compiled_or_fetched(
    compiler: str, hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOLAR_COMPILE", raising=False)
    monkeypatch.setenv("CC", compiler)
    assert compiler in hook.left_out()
    assert needs(hook) == []


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_who_insists_is_told_what_is_missing(compiler: str, hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLAR_COMPILE", "1")
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(SystemExit, match=f"SOLAR_COMPILE=1 insists, .* {compiler} "):
        needs(hook)


def test_who_wants_none_of_it_gets_none(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLAR_COMPILE", "0")
    assert (hook.left_out(), needs(hook)) == ("SOLAR_COMPILE=0", [])


def test_another_word_ends_the_install(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLAR_COMPILE", "yes")
    with pytest.raises(SystemExit, match=r"SOLAR_COMPILE is 1 .* or not set; it is 'yes'"):
        needs(hook)


def test_an_editable_install_is_never_compiled(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLAR_COMPILE", "1")
    told: dict[str, object] = {}
    hook.Compile(str(ROOT), {}, None, None, str(ROOT), "wheel").initialize("editable", told)
    assert told == {}
