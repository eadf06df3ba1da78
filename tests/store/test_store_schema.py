import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from kept import running
from sqlalchemy import NullPool, create_engine

import solar.store
from solar.store import RequestSummary, RoutingEvent
from solar.store.place import REVISIONS
from solar.store.tables import events, metadata, requests

PACKAGE = Path(solar.store.__file__).parent
WATCHED = """
import asyncio, logging, sys
from pathlib import Path
from solar.store import Store
before = {name for name in ("sqlalchemy", "alembic", "sqlite3") if name in sys.modules}
async def main() -> None:
    store = Store(Path(sys.argv[1]), log=logging.getLogger("x"))
    run = asyncio.get_running_loop().create_task(store.run())
    await store.flush()
    store.stop()
    await run
asyncio.run(main())
print(sorted(before - {"sqlite3"}), "sqlalchemy" in sys.modules, "alembic" in sys.modules)
"""


async def test_the_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    with create_engine(f"sqlite:///{tmp_path / 'solar.db'}", poolclass=NullPool).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_every_revision_is_known_by_name_and_the_last_is_the_newest() -> None:
    config = Config()
    config.set_main_option("script_location", str(PACKAGE / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_columns_stand_in_the_order_of_the_facts() -> None:
    assert tuple(column.name for column in requests.columns)[1:] == RequestSummary.__struct_fields__
    assert tuple(column.name for column in events.columns)[1:] == RoutingEvent.__struct_fields__


def test_alembic_is_loaded_for_a_new_schema_only_and_sqlalchemy_not_before_the_store_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WATCHED, os.fspath(tmp_path)]
    said = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    assert said == ["[] True True\n", "[] True False\n"]


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
