"""what the rounds of a training have changed, where the status of its cluster reads it"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004_training_progress"
down_revision: str | None = "0003_late_joiners"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The last completed round of each training, and the falls of the loss between its rounds.
_FILL_PROGRESS = """
WITH completed AS (
  SELECT training_id, number, global_loss, global_accuracy, validation_accuracy, seconds FROM rounds WHERE status = 'completed'
),
last_round AS (
  SELECT DISTINCT ON (training_id) * FROM completed ORDER BY training_id, number DESC
),
losses AS (
  SELECT training_id, number, global_loss AS loss,
         lag(global_loss) OVER (PARTITION BY training_id ORDER BY number) - global_loss AS fall
  FROM completed WHERE global_loss BETWEEN '-1e300' AND '1e300'
),
convergence AS (
  SELECT training_id, count(*) AS losses, max(fall) AS largest_fall,
         (array_agg(loss ORDER BY number DESC))[1] AS last_loss,
         (array_agg(fall ORDER BY number DESC))[1] AS last_fall
  FROM losses GROUP BY training_id
),
recent AS (
  SELECT training_id, jsonb_agg(seconds ORDER BY number) AS seconds
  FROM (
    SELECT training_id, number, seconds, row_number() OVER (PARTITION BY training_id ORDER BY number DESC) AS age
    FROM completed WHERE seconds IS NOT NULL
  ) AS timed WHERE age <= 5 GROUP BY training_id
)
UPDATE trainings SET progress = jsonb_build_object(
  'global_loss', last_round.global_loss,
  'global_accuracy', last_round.global_accuracy,
  'validation_accuracy', last_round.validation_accuracy,
  'convergence_rate', CASE
    WHEN coalesce(convergence.losses, 0) < 3 THEN NULL
    WHEN convergence.largest_fall <= 0 THEN 1
    ELSE least(1, greatest(0, 1 - convergence.last_fall / convergence.largest_fall)) END,
  'losses', coalesce(convergence.losses, 0),
  'last_loss', convergence.last_loss,
  'largest_fall', convergence.largest_fall,
  'recent_seconds', coalesce(recent.seconds, '[]'::jsonb)
)
FROM last_round
LEFT JOIN convergence USING (training_id)
LEFT JOIN recent USING (training_id)
WHERE trainings.id = last_round.training_id
"""
_FILL_WORKERS = """
WITH newest AS (
  SELECT DISTINCT ON (training_id, node_id) * FROM round_nodes ORDER BY training_id, node_id, number DESC
),
measured AS (
  SELECT DISTINCT ON (training_id, node_id) * FROM round_nodes
  WHERE local_loss IS NOT NULL ORDER BY training_id, node_id, number DESC
),
sampled AS (
  SELECT DISTINCT ON (training_id, node_id) training_id, node_id, samples FROM round_nodes
  WHERE samples IS NOT NULL ORDER BY training_id, node_id, number DESC
),
workers AS (
  SELECT training_id, jsonb_object_agg(node_id, jsonb_build_object(
    'local_loss', measured.local_loss,
    'local_accuracy', measured.local_accuracy,
    'samples', sampled.samples,
    'state', newest.state,
    'reason', newest.reason
  )) AS progress
  FROM newest
  LEFT JOIN measured USING (training_id, node_id)
  LEFT JOIN sampled USING (training_id, node_id)
  GROUP BY training_id
)
UPDATE trainings SET worker_progress = workers.progress FROM workers WHERE trainings.id = workers.training_id
"""
# The part of each sandbox's life between the start and the end of the training, times its price.
_FILL_COST = """
UPDATE trainings SET cost_usd = (
  SELECT coalesce(sum(round(
    greatest(0, extract(epoch FROM
      least(life.ended_at, trainings.finished_at) - greatest(
        life.started_at, trainings.started_at, (trainings.joiners -> nodes.id ->> 'joined_at')::timestamptz
      )
    ))::numeric / 60 * nodes.price_per_minute, 6)), 0)
  FROM nodes
  CROSS JOIN LATERAL (
    SELECT (former ->> 'started_at')::timestamptz AS started_at, (former ->> 'ended_at')::timestamptz AS ended_at
    FROM jsonb_array_elements(nodes.former_sandboxes) AS former
    UNION ALL
    SELECT nodes.started_at, coalesce(nodes.ended_at, trainings.finished_at) WHERE nodes.started_at IS NOT NULL
  ) AS life
  WHERE nodes.id = trainings.aggregator_id
     OR trainings.workers @> to_jsonb(nodes.id)
     OR trainings.former_aggregators @> to_jsonb(nodes.id)
)
WHERE finished_at IS NOT NULL AND started_at IS NOT NULL
"""


def upgrade() -> None:
    for name in ("progress", "worker_progress"):
        document = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
        op.add_column("trainings", sa.Column(name, document, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("trainings", sa.Column("cost_usd", sa.Numeric(precision=14, scale=6), nullable=True))
    for statement in (_FILL_PROGRESS, _FILL_WORKERS, _FILL_COST):
        op.execute(statement)
    op.create_index("ix_trainings_cluster_page", "trainings", ["cluster_id", "created_at", "id"], unique=False)
    op.drop_index("ix_trainings_cluster_id", table_name="trainings")


def downgrade() -> None:
    op.create_index("ix_trainings_cluster_id", "trainings", ["cluster_id"], unique=False)
    op.drop_index("ix_trainings_cluster_page", table_name="trainings")
    for column in ("cost_usd", "worker_progress", "progress"):
        op.drop_column("trainings", column)
