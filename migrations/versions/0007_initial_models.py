"""the model that a training began from, and the cost of its pauses"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007_initial_models"
down_revision: str | None = "0006_heartbeats"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "trainings",
        sa.Column("initial_model", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("trainings", sa.Column("paused_usd", sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("trainings", "paused_usd")
    op.drop_column("trainings", "initial_model")
