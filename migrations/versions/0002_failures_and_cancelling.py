"""failures, cancelling, progress and the input of a prediction"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LEASED = ("clusters", "nodes", "searches", "trainings", "predictions", "models")
_PREDICTION_STATUSES = ("pending", "completed", "failed")
_MODEL_STATUSES = ("pending", "completed", "failed", "expired")


def upgrade() -> None:
    for table in _LEASED:
        op.add_column(table, sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "rounds",
        sa.Column(
            "agent_deaths",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("predictions", sa.Column("progress", sa.Float(precision=53), nullable=True))
    op.add_column("predictions", sa.Column("input_size", sa.BigInteger(), nullable=True))
    op.add_column("predictions", sa.Column("input_sha256", sa.Text(), nullable=True))
    op.add_column("models", sa.Column("progress", sa.Float(precision=53), nullable=True))
    _allow("predictions", "prediction_status", (*_PREDICTION_STATUSES, "cancelled"))
    _allow("models", "model_status", (*_MODEL_STATUSES, "cancelled"))
    _unique_model_names("status NOT IN ('failed', 'cancelled', 'expired')")


def downgrade() -> None:
    op.execute("UPDATE predictions SET status = 'failed' WHERE status = 'cancelled'")
    op.execute("UPDATE models SET status = 'failed' WHERE status = 'cancelled'")
    _unique_model_names("status NOT IN ('failed', 'expired')")
    _allow("models", "model_status", _MODEL_STATUSES)
    _allow("predictions", "prediction_status", _PREDICTION_STATUSES)
    op.drop_column("models", "progress")
    for column in ("input_sha256", "input_size", "progress"):
        op.drop_column("predictions", column)
    op.drop_column("rounds", "agent_deaths")
    for table in _LEASED:
        op.drop_column(table, "failures")


def _allow(table: str, name: str, statuses: Sequence[str]) -> None:
    """Replace the check of a status column."""
    listed = ", ".join(f"'{status}'" for status in statuses)
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, f"status IN ({listed})")


def _unique_model_names(where: str) -> None:
    op.drop_index("uq_models_name", table_name="models")
    op.create_index("uq_models_name", "models", ["training_id", "name"], unique=True, postgresql_where=sa.text(where))
