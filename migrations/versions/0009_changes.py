"""notify the API of every change that a kept answer may show"""

from collections.abc import Sequence
from typing import Final

from alembic import op

revision: str = "0009_changes"
down_revision: str | None = "0008_preparation"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The ids that a row of each table concerns.
_CONCERNED: Final = {
    "clusters": "concerned.id, concerned.project_id",
    "nodes": "concerned.cluster_id",
    "trainings": "concerned.cluster_id, concerned.project_id, concerned.id",
    "rounds": "concerned.training_id",
    "round_nodes": "concerned.training_id",
}
# Steps write these all the time, and no kept answer shows them.
_LEASE: Final = ("due_at", "lease_token", "lease_until", "attempts", "failures")
_SILENT: Final = {
    "clusters": (*_LEASE, "event_seq", "last_call_at"),
    "nodes": (*_LEASE, "sandbox_expires_at"),
    "trainings": _LEASE,
}


def upgrade() -> None:
    for table, ids in _CONCERNED.items():
        ignore = " ".join(f"OLD.{column} := NEW.{column};" for column in _SILENT.get(table, ()))
        op.execute(
            f"""
            CREATE FUNCTION announce_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE concerned {table}%ROWTYPE;
            BEGIN
              IF TG_OP = 'UPDATE' THEN
                {ignore}
                IF OLD IS NOT DISTINCT FROM NEW THEN RETURN NULL; END IF;
              END IF;
              IF TG_OP = 'DELETE' THEN concerned := OLD; ELSE concerned := NEW; END IF;
              PERFORM pg_notify('flow_nexus', concat_ws(' ', 'changed', {ids}));
              RETURN NULL;
            END $$
            """
        )
        op.execute(
            f"""
            CREATE TRIGGER announce_{table} AFTER INSERT OR UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION announce_{table}()
            """
        )


def downgrade() -> None:
    for table in _CONCERNED:
        op.execute(f"DROP TRIGGER announce_{table} ON {table}")
        op.execute(f"DROP FUNCTION announce_{table}()")
