"""Write the boards as JSON for Grafana: `python -m deploy.monitoring.boards.write`."""

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.monitoring.boards.clusters import clusters
from deploy.monitoring.boards.service import service
from deploy.monitoring.boards.training import training

FOLDER = Path(__file__).parents[1] / "grafana"


def boards() -> dict[str, str]:
    """Return the text of each file, by its name."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    made = {"service.json": service(), "clusters.json": clusters(), "training.json": training()}
    return {name: encoder.encode(dashboard.build()) + "\n" for name, dashboard in made.items()}


if __name__ == "__main__":
    for name, text in boards().items():
        (FOLDER / name).write_text(text)
