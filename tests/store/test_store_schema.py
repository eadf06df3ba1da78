import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from kept import asked, host, running

from solar.errors import StoreFailed
from solar.store.database import MIGRATIONS, _migrate
from solar.store.facts import COLUMNS
from solar.store.place import REVISIONS

WATCHED = """
import asyncio, logging, sys
from pathlib import Path
from solar.store import Store
from kept import EVER, asked, running
async def main() -> None:
    async with running(Path(sys.argv[1])) as store:
        store.record(asked(1))
        await store.flush()
        await store.hosts()
        await store.stats(*EVER)
asyncio.run(main())
print(sorted({"sqlalchemy", "alembic"} & set(sys.modules)))
"""
NEXT = """
revision = "0002"
down_revision = "0001"

from alembic import op

def upgrade():
    op.execute("ALTER TABLE hosts ADD COLUMN colour TEXT")
    op.execute("{more}")
"""


def shape(path: Path) -> dict[str, Any]:
    """Tables with their columns, indices with what they are of."""
    with closing(sqlite3.connect(path)) as shell:
        made = shell.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        tables = {
            name: shell.execute(f"PRAGMA table_info({name})").fetchall() for kind, name, _ in made if kind == "table"
        }
        return tables | {name: " ".join(sql.split()) for kind, name, sql in made if kind == "index"}


def stamp(path: Path) -> str:
    with closing(sqlite3.connect(path)) as shell:
        return str(shell.execute("SELECT version_num FROM alembic_version").fetchone()[0])


async def test_a_new_database_is_what_the_migrations_come_to(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    migrated = tmp_path / "migrated.db"
    migrated.touch()
    _migrate(migrated)
    assert shape(store.path) == shape(migrated)
    assert stamp(store.path) == stamp(migrated) == REVISIONS[-1]


def test_every_revision_is_known_by_name_and_the_last_is_the_newest() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A later Solar's migrations, in which a second one follows."""
    migrations = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, migrations)
    monkeypatch.setattr("solar.store.database.MIGRATIONS", migrations)
    for module in ("database", "place", "connections"):
        monkeypatch.setattr(f"solar.store.{module}.REVISIONS", (*REVISIONS, "0002"))
    return migrations / "versions" / "0002_next.py"


async def test_an_older_database_is_brought_up_to_date_with_what_is_in_it(tmp_path: Path, newer: Path) -> None:
    newer.write_text(NEXT.format(more="UPDATE hosts SET colour = 'red'"))  # noqa: ASYNC240
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solar.store.database.REVISIONS", REVISIONS)
        patch.setattr("solar.store.place.REVISIONS", REVISIONS)
        async with running(tmp_path) as store:
            await store.put_host(host())
    assert stamp(store.path) == "0001"
    async with running(tmp_path) as store:
        await store.opened()
        assert await store.hosts() == (host(),)
        store.record(asked(1))
        await store.flush()
    assert stamp(store.path) == "0002"
    with closing(sqlite3.connect(store.path)) as shell:
        assert shell.execute("SELECT colour FROM hosts").fetchall() == [("red",)]


async def test_a_migration_that_fails_has_changed_nothing(tmp_path: Path, newer: Path) -> None:
    newer.write_text(NEXT.format(more="INSERT INTO nowhere VALUES (1)"))  # noqa: ASYNC240
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solar.store.database.REVISIONS", REVISIONS)
        async with running(tmp_path) as store:
            await store.put_host(host())
    before = shape(store.path)
    async with running(tmp_path) as store:
        with pytest.raises(StoreFailed, match="no such table: nowhere"):
            await store.put_host(host(2))
    assert shape(store.path) == before
    assert stamp(store.path) == "0001"


async def test_without_what_migrates_an_older_database_is_left_as_it_is_and_that_is_said(
    tmp_path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer.write_text(NEXT.format(more="SELECT 1"))  # noqa: ASYNC240
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solar.store.database.REVISIONS", REVISIONS)
        async with running(tmp_path) as store:
            await store.put_host(host())
    monkeypatch.setitem(sys.modules, "alembic", None)
    async with running(tmp_path) as store:
        with pytest.raises(StoreFailed, match=r"needs alembic, not installed; install it with the extra 'server'"):
            await store.put_host(host(2))
    assert stamp(store.path) == "0001"


async def test_columns_stand_in_the_order_of_the_facts(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    assert tuple(column[1] for column in shape(store.path)["requests"])[1:] == COLUMNS


def test_neither_sqlalchemy_nor_alembic_is_loaded_for_a_schema_of_today(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WATCHED, os.fspath(tmp_path)]
    here = {"PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parent), *filter(None, sys.path)])}
    for _ in range(2):
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | here)
        assert ran.stdout == "[]\n"


async def test_the_write_ahead_log_lets_the_shell_read_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
        with sqlite3.connect(tmp_path / "solar.db") as shell:
            assert shell.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            assert shell.execute("SELECT count(*) FROM requests").fetchall() == [(0,)]
        shell.close()


async def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    async with running(data) as store:
        await store.flush()
        modes = {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()}
        assert modes == dict.fromkeys(("solar.db", "solar.db-wal", "solar.db-shm"), 0o600)
        assert data.stat().st_mode & 0o777 == 0o700


async def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    (tmp_path / "solar.db").chmod(0o644)
    async with running(tmp_path) as store:
        await store.flush()
        modes = [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()]  # noqa: ASYNC240
        assert modes == [0o600] * 3
