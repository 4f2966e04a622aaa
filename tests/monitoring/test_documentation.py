"""docs/monitoring.md names every metric, with its type and its labels, and no other one."""

import re
from decimal import Decimal
from pathlib import Path

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from api.main import create_app
from api.store.database import Database
from api.store.tables import ClusterRow, TrainingRow
from tests.api.routes.conftest import make_settings, serving
from tests.api.services.test_progress import Watched
from tests.monitoring.expressions import of_alerts
from workers.metrics import REGISTRIES

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
ROW = re.compile(r"^\| `(flow_nexus_\w+)` \| (\w+) \|\s*([^|]*?)\s*\|", re.MULTILINE)
Metric = tuple[str, frozenset[str]]


def documented() -> dict[str, Metric]:
    """Return type and labels of each metric in the tables of the page."""
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(PAGE.read_text())}


def registered(exposed: str) -> dict[str, Metric]:
    """Return type and labels of each metric of this project in the text format."""
    found = {}
    for family in text_string_to_metric_families(exposed):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("flow_nexus_"):
            found[name] = (family.type, frozenset(labels))
    return found


def test_the_page_has_every_metric(database: Database, postgres_url: str, tmp_path: Path) -> None:
    watched = Watched(database)
    training_id = watched.training(1, "training", rounds=1)
    with database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        row.progress = row.progress.model_copy(update={"recent_seconds": (2.0,)})
        uow.session.execute(update(ClusterRow).values(budget_usd=Decimal(1)))
    settings = make_settings(postgres_url, tmp_path, metrics_per_training=True)
    with serving(create_app(settings)) as url:
        httpx.get(f"{url}/healthz")
        api = registered(httpx.get(f"{url}/metrics", timeout=30).text)
    worker = registered(generate_latest(REGISTRIES.shown).decode())
    assert api.keys() & worker.keys() == {"flow_nexus_sandbox_limits_total"}, "both run code in sandboxes"
    assert documented() == api | worker


def test_the_page_says_what_to_do_for_every_alert() -> None:
    explained = set(re.findall(r"^\| `(FlowNexus\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert explained == of_alerts().keys()
