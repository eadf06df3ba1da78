"""What a wheel has compiled is what its sources say, and no other code runs beside it."""

import ast
import importlib
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from solar.control.built import is_compiled

ROOT = Path(__file__).parent.parent
# Bases whose objects nobody refers to weakly. An object of a native class with a base of Python's ends without telling:
# whoever then looks at a weak reference to it reads memory that is gone.
BASES = {"ABC", "Enum", "Generic", "NamedTuple", "Protocol"}


def named() -> set[str]:
    """What the build hook compiles. The hook is read and not run: it needs what builds."""
    hook = ast.parse((ROOT / "scripts/_compile.py").read_text(encoding="utf-8"))
    (table,) = [
        ast.literal_eval(each.value)
        for each in hook.body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "MODULES"
    ]
    rooms = {folder: "solar" if folder == "." else f"solar.{folder}" for folder in table}
    return {f"{rooms[folder]}.{name}" for folder, names in table.items() for name in names.split()}


MODULES = named()
SOURCES = {name: ROOT / "src" / f"{name.replace('.', '/')}.py" for name in MODULES}


def classes() -> list[tuple[str, ast.ClassDef]]:
    return [
        (name, node)
        for name, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]


def test_a_native_class_has_bases_that_are_native_or_known() -> None:
    native = {node.name for _, node in classes()}
    wrong = [
        f"{module}: {node.name}({base})"
        for module, node in classes()
        if not node.decorator_list  # with one it stays a class of Python's
        for base in (ast.unparse(each).partition("[")[0].rpartition(".")[2] for each in node.bases)
        if base not in native | BASES
    ]
    assert wrong == []


def test_a_native_class_has_no_keywords_which_would_be_dropped() -> None:
    assert [f"{module}: {node.name}" for module, node in classes() if node.keywords] == []


def test_nothing_that_awaits_is_compiled() -> None:
    """From Python 3.12 on a compiled coroutine warns whenever what it awaits fails, and where warnings are errors it
    fails with that warning instead."""
    waits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
    assert [name for name, tree in trees.items() if any(isinstance(node, waits) for node in ast.walk(tree))] == []


def test_no_class_that_is_compiled_is_decoded_by() -> None:
    """Of the types that a class of msgspec names, a compiled one keeps nothing that could be read when it runs."""
    native = {node.name for _, node in classes()}
    used = [
        argument.id
        for path in SOURCES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("Decoder", "convert", "decode")
        for argument in (*node.args, *(keyword.value for keyword in node.keywords))
        if isinstance(argument, ast.Name)
    ]
    assert native.isdisjoint(used)


def test_all_of_them_are_compiled_or_none_is() -> None:
    files = {name: importlib.import_module(name).__file__ or "" for name in MODULES}
    compiled = {name for name, file in files.items() if file.endswith(tuple(EXTENSION_SUFFIXES))}
    assert compiled == (MODULES if is_compiled() else set())


def test_a_solar_that_is_started_is_compiled_if_this_one_is(tmp_path: Path) -> None:
    told = subprocess.check_output([sys.executable, "-m", "solar", "--version"], cwd=tmp_path, text=True)
    assert told.strip().endswith("(compiled)" if is_compiled() else "(interpreted)")
