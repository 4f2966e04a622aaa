"""What `migrations/check.py` refuses in a migration, and what it lets through."""

from pathlib import Path

import pytest

from migrations.rules import VERSIONS, breaches

HEAD = "import sqlalchemy as sa\nfrom alembic import op\n\nrevision: str = '9999'\n"
DOWN = "\n\ndef downgrade() -> None:\n    op.drop_column('models', 'mark')\n    op.drop_table('marks')\n"


def wrong(folder: Path, *lines: str, before: str = "") -> list[str]:
    path = folder / "9999_new.py"
    path.write_text(HEAD + before + "\n\ndef upgrade() -> None:\n" + "".join(f"    {line}\n" for line in lines) + DOWN)
    return list(breaches(path))


def test_our_migrations_keep_the_rules() -> None:
    assert [line for path in VERSIONS.glob("*.py") for line in breaches(path)] == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("op.drop_column('models', 'size')", "drop_column takes something away"),
        ("op.drop_table('models')", "drop_table takes something away"),
        ("op.rename_table('models', 'exports')", "rename_table takes something away"),
        ("op.alter_column('models', 'size', nullable=False)", "changes what a column takes"),
        ("op.alter_column('models', 'size', new_column_name='bytes')", "changes what a column takes"),
        ("op.execute('ALTER TABLE models DROP COLUMN size')", "the SQL takes something away"),
        ("op.execute('ALTER TABLE models ALTER COLUMN size SET NOT NULL')", "the SQL takes something away"),
        ("op.execute('TRUNCATE models')", "the SQL takes something away"),
        ("op.add_column('models', sa.Column('mark', sa.Text(), nullable=False))", "nullable or have a server_default"),
        ("op.create_index('ix_models_mark', 'models', ['mark'])", "postgresql_concurrently=True"),
        ("op.create_check_constraint('ck', 'models', 'size > 0')", "postgresql_not_valid=True"),
        ("op.create_foreign_key('fk', 'models', 'marks', ['mark'], ['id'])", "postgresql_not_valid=True"),
    ],
)
def test_what_stops_an_older_release_is_refused(tmp_path: Path, line: str, told: str) -> None:
    (breach,) = wrong(tmp_path, line)
    assert breach.startswith("9999_new.py:8: ")
    assert told in breach


@pytest.mark.parametrize(
    "lines",
    [
        ("op.add_column('models', sa.Column('mark', sa.Text(), nullable=True))",),
        ("op.add_column('models', sa.Column('mark', sa.Text(), server_default='x', nullable=False))",),
        ("op.alter_column('models', 'size', nullable=True)",),
        (
            "op.create_table('marks', sa.Column('id', sa.Text(), nullable=False))",
            "op.create_index('ix_marks_id', 'marks', ['id'])",
            "op.create_check_constraint('ck', 'marks', 'id > 0')",
        ),
        (
            "with op.get_context().autocommit_block():",
            "    op.create_index('ix_models_mark', 'models', ['mark'], postgresql_concurrently=True)",
        ),
        ("op.create_check_constraint('ck', 'models', 'size > 0', postgresql_not_valid=True)",),
    ],
)
def test_what_adds_is_let_through(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert wrong(tmp_path, *lines) == []


def test_a_migration_that_contracts_says_so(tmp_path: Path) -> None:
    marked = "contracts: tuple[str, ...] = ('models.size',)\n"
    assert wrong(tmp_path, "op.drop_column('models', 'size')", before=marked) == []
