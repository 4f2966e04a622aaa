"""The boards' JSON is what their code makes, and shows only metrics that exist."""

import json
from pathlib import Path

import pytest

from deploy.monitoring.boards.write import FOLDER, boards
from tests.monitoring.expressions import BOARDS, metrics_of, of_alerts, of_board
from tests.monitoring.test_documentation import documented


def test_the_files_are_up_to_date() -> None:
    """Write them again: python -m deploy.monitoring.boards.write."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == boards()


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_is_readable_and_fits_the_grid(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    titles = [panel["title"] for panel in panels]
    assert len(titles) == len(set(titles))
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"])


def test_boards_and_alerts_use_metrics_that_exist() -> None:
    used = [expression for path in BOARDS for _, expression in of_board(path)] + list(of_alerts().values())
    names = set().union(*(metrics_of(expression) for expression in used))
    assert names <= documented().keys()
    # What no board shows is there for the reader's own boards.
    assert documented().keys() - names == {"flow_nexus_database_up"}
