"""`flow-nexus backup` and `restore` between two real databases and two folders of models."""

import hashlib
import io
import json
import stat
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select

from api.cli.main import main
from api.store.database import Database
from api.store.migration import migrate
from api.store.schema import newest_revision
from api.store.tables import Base, ModelRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
MODEL = b"the files of a model" * 100_000
ODD_TEXT = "a tab\t, a line\n, a backslash \\N \\. , quotes \"' and 日本語"
Run = Callable[..., tuple[str, str]]


def new_database(server: Engine) -> str:
    name = f"test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return server.url.set(database=name).render_as_string(hide_password=False)


def content(url: str) -> dict[str, list[Any]]:
    """Return every row of every table, sorted."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = {table.name: sorted(map(repr, connection.execute(select(table)))) for table in Base.metadata.sorted_tables}
    engine.dispose()
    return rows


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def play(*words: object, code: int = 0) -> tuple[str, str]:
        assert main([str(word) for word in words]) == code, capsys.readouterr()
        answer = capsys.readouterr()
        assert KEY not in answer.out + answer.err
        return answer

    return play


@dataclass(frozen=True)
class Deployment:
    """A database and a folder of models."""

    url: str
    models: Path

    def use(self, monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> None:
        """Name it in the environment."""
        monkeypatch.setenv("FLOW_NEXUS_DATABASE_URL", self.url)
        monkeypatch.setenv("FLOW_NEXUS_MODELS_DIR", str(self.models))
        monkeypatch.setenv("FLOW_NEXUS_SECRET_KEY", key)


@pytest.fixture(scope="module")
def source(postgres_server: Engine, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Make a deployment with rows in several tables and one model."""
    made = Deployment(new_database(postgres_server), tmp_path_factory.mktemp("models"))
    migrate(made.url)
    engine = create_engine(made.url)
    with Database(engine, lambda _step, _row_id: None).unit_of_work() as uow:
        session = uow.session
        project = make_project(session)
        cluster = make_cluster(session, project)
        cluster.name = ODD_TEXT
        aggregator = make_node(session, cluster, "aggregator")
        make_node(session, cluster)
        training = make_training(session, cluster, aggregator, "failed")
        session.flush()
        session.add(
            ModelRow(
                id="mdl_kept",
                project_id=project,
                cluster_id=cluster.id,
                training_id=training.id,
                status="completed",
                name="kept",
                digest="0" * 64,
                sha256=hashlib.sha256(MODEL).hexdigest(),
            )
        )
    engine.dispose()
    (made.models / "mdl_kept.tar").write_bytes(MODEL)
    return made


@pytest.fixture(scope="module")
def backup(source: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backup") / "backup.tar"
    with pytest.MonkeyPatch.context() as monkeypatch:
        source.use(monkeypatch)
        assert main(["backup", str(file)]) == 0
    return file


@pytest.fixture
def empty(postgres_server: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Name an empty database and an empty folder in the environment."""
    made = Deployment(new_database(postgres_server), tmp_path / "restored")
    made.use(monkeypatch)
    return made


@pytest.fixture(scope="module")
def shared_url(postgres_server: Engine) -> str:
    """Return the URL of an empty database that no test changes."""
    return new_database(postgres_server)


@pytest.fixture
def untouched(shared_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Name an empty database in the environment. At the end nothing of it may have changed."""
    made = Deployment(shared_url, tmp_path / "untouched")
    made.use(monkeypatch)
    yield made
    assert not made.models.exists()
    engine = create_engine(made.url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None
    engine.dispose()


def test_a_backup_brings_back_every_row_and_file(source: Deployment, backup: Path, empty: Deployment, run: Run) -> None:
    out, err = run("restore", backup)
    assert out.startswith("restored ")
    assert err == ""
    assert content(empty.url) == content(source.url)
    assert (empty.models / "mdl_kept.tar").read_bytes() == MODEL


def test_a_database_with_rows_is_replaced_only_when_told(source: Deployment, backup: Path, run: Run, empty: Deployment) -> None:
    migrate(empty.url)
    run("restore", backup)
    engine = create_engine(empty.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO projects (id, name) VALUES ('prj_later', 'later')")
    engine.dispose()
    assert "--replace deletes them" in run("restore", backup, code=2)[1]
    assert content(empty.url) != content(source.url)
    run("restore", backup, "--replace")
    assert content(empty.url) == content(source.url)


def test_only_its_owner_reads_a_backup_and_its_user_is_warned(
    source: Deployment, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.use(monkeypatch)
    out, err = run("backup", tmp_path / "backup.tar")
    assert ", 1 models, the secret key; " in out
    assert "is not encrypted" in err
    assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
    assert "exists already" in run("backup", tmp_path / "backup.tar", code=2)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_backup_can_leave_the_key_out(
    source: Deployment, untouched: Deployment, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keyless.tar"
    source.use(monkeypatch)
    run("backup", file, "--no-secret-key")
    assert KEY.encode() not in file.read_bytes()
    untouched.use(monkeypatch)
    assert "has no secret key" in run("restore", file, "--secret-key-to", tmp_path / "key", code=2)[1]
    assert "has no secret key" in run("restore", file, "--home", tmp_path / "home", code=2)[1]


def test_a_missing_model_is_named_and_a_damaged_one_ends_the_backup(
    source: Deployment, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Deployment(source.url, tmp_path / "models")
    changed.use(monkeypatch)
    assert "no file: mdl_kept" in run("backup", tmp_path / "missing.tar")[1]
    changed.models.mkdir()
    (changed.models / "mdl_kept.tar").write_bytes(b"other")
    assert "the file of model mdl_kept is damaged" in run("backup", tmp_path / "damaged.tar", code=1)[1]
    assert not (tmp_path / "damaged.tar").exists()


def test_another_key_is_refused(backup: Path, untouched: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched.use(monkeypatch, "another key of a deployment, which is long")
    assert "is not that of the backup" in run("restore", backup, code=2)[1]


def test_the_key_of_the_backup_can_be_written(
    backup: Path, empty: Deployment, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOW_NEXUS_SECRET_KEY")
    run("restore", backup, "--secret-key-to", tmp_path / "key")
    assert (tmp_path / "key").read_text() == f"{KEY}\n"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_database_in_use_is_refused(backup: Path, untouched: Deployment, run: Run) -> None:
    engine = create_engine(untouched.url)
    with engine.connect():
        assert "1 connections use the database; stop the service first" in run("restore", backup, code=1)[1]
    engine.dispose()


def rewrite(backup: Path, changed: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy a backup with changed members. A member that becomes None is left out."""
    with tarfile.open(backup) as old, tarfile.open(changed, "w") as new:
        for member in old.getmembers():
            data = change(member.name, old.extractfile(member).read())  # type: ignore[union-attr]
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return changed


def manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes | None]:
    def changed(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        fields = json.loads(data)
        change(fields)
        return json.dumps(fields).encode()

    return changed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda name, data: data[:-1] + b"x" if name == "models/mdl_kept.tar" else data, "mdl_kept.tar is damaged"),
        (lambda name, data: data + b"x" if name == "database/nodes.copy.gz" else data, "nodes.copy.gz is damaged"),
        (lambda name, data: None if name == "database/nodes.copy.gz" else data, "has no database/nodes.copy.gz"),
        (lambda name, data: None if name == "manifest.json" else data, "has no manifest.json"),
        (manifest(lambda fields: fields.update(format=2)), "a newer release"),
        (manifest(lambda fields: fields.update(revision="9999_later")), "revision 9999_later"),
        (manifest(lambda fields: fields["files"].pop("database/nodes.copy.gz")), "nodes.copy.gz is missing"),
        (manifest(lambda fields: fields["files"].update({"models/../x.tar": {"size": 0, "sha256": ""}})), "no backup holds"),
    ],
)
def test_a_damaged_backup_changes_nothing(
    backup: Path, untouched: Deployment, run: Run, tmp_path: Path, change: Callable[[str, bytes], bytes | None], told: str
) -> None:
    assert told in run("restore", rewrite(backup, tmp_path / "changed.tar", change), code=1)[1]


def test_a_file_that_is_no_backup_is_one_line(untouched: Deployment, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no backup")
    assert "cannot be read" in run("restore", tmp_path / "text", code=1)[1]
    assert "cannot be read" in run("restore", tmp_path / "nothing", code=1)[1]


def test_a_database_of_another_release_is_not_backed_up(empty: Deployment, run: Run, tmp_path: Path) -> None:
    migrate(empty.url)
    engine = create_engine(empty.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0008_preparation'")
    engine.dispose()
    message = f"at 0008_preparation, this release needs {newest_revision()}"
    assert message in run("backup", tmp_path / "older.tar", code=1)[1]
    assert not (tmp_path / "older.tar").exists()
