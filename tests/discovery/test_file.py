"""Backends in a file that changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from contract import QUICK, Followed

from solar import Backend
from solar.discovery import follow
from solar.discovery.file import FileDiscoverer
from solar.errors import InvalidSettings
from solar.testing import FakeBackend

TABLE = '[[backends]]\nname = "{}"\nurl = "http://127.0.0.1:9"\n'


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SHORTEST", QUICK)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backends.toml"
    write(path, TABLE.format("a"))
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def quick(path: Path) -> FileDiscoverer:
    discoverer = FileDiscoverer(path)
    discoverer.every = discoverer.settle = QUICK
    return discoverer


async def test_a_table_says_all_that_it_says_in_solar_toml(file: Path) -> None:
    write(file.with_name("a.key"), "secret\n")
    write(file, TABLE.format("a") + 'api_key_file = "a.key"\nweight = 2\naliases = { gpt = "m" }\nmodels = ["m"]\n')
    async with Followed(quick(file)) as followed:
        await followed.until(lambda: followed.there)
        expected = Backend(
            "a", "http://127.0.0.1:9", api_key="secret", weight=2, aliases={"gpt": "m"}, models=("m",),
            source=f"file:{file}",
        )  # fmt: skip
        assert followed.there == {"a": expected}


async def test_a_json_file_holds_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    write(path, json.dumps({"backends": [{"name": "a", "url": "http://127.0.0.1:9", "max_in_flight": 3}]}))
    async with Followed(quick(path)) as followed:
        await followed.until(lambda: followed.there)
        assert followed.there["a"].max_in_flight == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[backends]]\nname = "b"\nulr = "x"\n', "number 1 (b): no setting is called 'ulr'; did you mean 'url'?"),
        ('[[backends]]\nname = "b"\n', "url is missing; write for example: url = "),
        ("[[backends]", "not valid TOML"),
        ("[server]\nport = 1\n", "'server' has no meaning here; this file holds [[backends]] and nothing else"),
        ('backends = "a"\n', "write backends as [[backends]]"),
        (TABLE.format("b") * 2, "the name 'b' is taken by [[backends]] number 1 (b)"),
    ],
)
async def test_a_mistake_keeps_what_was_there_and_says_what_to_write(file: Path, text: str, said: str) -> None:
    async with Followed(quick(file)) as followed:
        await followed.until(lambda: followed.there)
        write(file, text)
        await followed.until(lambda: followed.errors)
        assert str(file) in str(followed.errors[0])
        assert said in str(followed.errors[0])
        assert list(followed.there) == ["a"]
        write(file, TABLE.format("c"))
        await followed.until(lambda: list(followed.there) == ["c"])
        assert len(followed.errors) == 1


@pytest.mark.parametrize(("text", "said"), [("[1]", "must hold"), ("{", "not valid JSON"), ("[" * 99_999, "not valid")])
async def test_a_mistake_in_json_is_told_too(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "backends.json"
    write(path, text)
    with pytest.raises(InvalidSettings, match=said):
        await anext(quick(path).watch())


async def test_a_mistake_is_told_once_for_each_change(file: Path) -> None:
    discoverer = quick(file)
    async with Followed(discoverer) as followed:
        await followed.until(lambda: followed.there)
        for count, text in enumerate(("[[backends]", "[[backends]  ", "[[x]]"), start=1):
            write(file, text)
            await followed.until(lambda count=count: len(followed.errors) == count)
        write(file, TABLE.format("b"))
        await followed.until(lambda: "b" in followed.there)
        assert len(followed.errors) == 3


async def test_a_key_file_that_was_missing_is_read_once_it_is_there(file: Path) -> None:
    write(file, TABLE.format("b") + 'api_key_file = "b.key"\n')
    async with Followed(quick(file)) as followed:
        await followed.until(lambda: followed.errors)
        assert "api_key_file: cannot read" in str(followed.errors[0])
        write(file.with_name("b.key"), "one")
        await followed.until(lambda: followed.there)
        assert followed.there["b"].api_key == "one"
        write(file.with_name("b.key"), "other")
        await followed.until(lambda: followed.there["b"].api_key == "other")
        assert len(followed.errors) == 1


async def test_a_file_that_is_gone_keeps_what_was_there_and_says_so(file: Path) -> None:
    async with Followed(quick(file)) as followed:
        await followed.until(lambda: followed.there)
        remove(file)
        await followed.until(lambda: followed.errors)
        assert str(followed.errors[0]) == f"there is no {file}; what it had named stays until it is there again"
        assert list(followed.there) == ["a"]
        write(file, TABLE.format("b"))
        await followed.until(lambda: list(followed.there) == ["b"])


async def test_a_file_that_comes_later_is_read_then(tmp_path: Path) -> None:
    path = tmp_path / "later.toml"
    async with Followed(quick(path)) as followed:
        await followed.until(lambda: followed.errors)
        write(path, TABLE.format("a"))
        await followed.until(lambda: followed.there)


async def test_a_file_that_is_being_written_is_not_read_half(file: Path) -> None:
    discoverer = quick(file)
    discoverer.settle = 0.1
    async with Followed(discoverer) as followed:
        await followed.until(lambda: followed.there)
        whole = "".join(TABLE.format(f"backend-{number}") for number in range(40))
        with file.open("w") as writing:
            for letter in whole:
                writing.write(letter)
                writing.flush()
                await asyncio.sleep(0)
        await followed.until(lambda: "a" not in followed.there)
        assert len(followed.there) == 40
        assert followed.errors == []
        assert followed.lost == ["a"]


async def test_backends_of_a_file_need_not_answer_and_a_look_says_which_do(file: Path) -> None:
    async with FakeBackend(["m"], kind="vllm", api_key="k") as fake:
        write(file, TABLE.format("dead") + f'[[backends]]\nname = "locked"\nurl = "{fake.url}"\n')
        seen = {one.name: one for one in await quick(file).look()}
        assert (seen["dead"].reason, seen["dead"].tried[0].failed) == ("nothing listens there", "refused")
        assert (seen["locked"].reason, seen["locked"].advice[:9]) == ("it wants a key (401)", "write its")
        assert all(one.backend is not None for one in seen.values())
        write(file, f'[[backends]]\nname = "open"\nurl = "{fake.url}"\napi_key = "k"\n')
        (one,) = await quick(file).look()
        assert (one.reason, one.advice, one.tried[0].outcome) == ("", "", "vllm, with m")


async def test_an_empty_file_names_nobody(file: Path) -> None:
    async with Followed(quick(file)) as followed:
        await followed.until(lambda: followed.there)
        write(file, "")
        await followed.until(lambda: not followed.there)
