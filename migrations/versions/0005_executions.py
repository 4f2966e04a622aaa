"""executions in the background of a sandbox"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005_executions"
down_revision: str | None = "0004_training_progress"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATUSES = ("pending", "running", "cancelling", "completed", "failed", "cancelled")
_ACTIVE = "status IN ('pending', 'running', 'cancelling')"


def upgrade() -> None:
    document = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    time = sa.DateTime(timezone=True)
    op.create_table(
        "executions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("cluster_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(*_STATUSES, name="execution_status", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("request", document, nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("timeout_s", sa.Float(precision=53), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("limit", sa.Text(), nullable=True),
        sa.Column("stdout_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stderr_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("has_output", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("error", document, nullable=True),
        sa.Column("created_at", time, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", time, nullable=True),
        sa.Column("finished_at", time, nullable=True),
        sa.Column("due_at", time, nullable=True),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", time, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_executions_project_id")),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_executions_cluster_id")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_executions_node_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
    )
    op.create_index(op.f("ix_executions_cluster_id"), "executions", ["cluster_id"])
    op.create_index("ix_executions_page", "executions", ["node_id", "created_at", "id"])
    op.create_index("ix_executions_due", "executions", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index("ix_executions_active", "executions", ["project_id"], postgresql_where=sa.text(_ACTIVE))


def downgrade() -> None:
    op.drop_table("executions")
