"""promtool accepts the configuration and the alerts, and each alert fires when it should."""

from pathlib import Path

import pytest

from tests.monitoring.expressions import MONITORING, of_alerts
from tests.monitoring.promtool import PROMTOOL, promtool

TESTS = Path(__file__).parent / "alerts_test.yml"
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool of Debian's package prometheus is not installed")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(MONITORING / "prometheus.yml")),
        ("check", "rules", str(MONITORING / "alerts.yml")),
        ("test", "rules", str(TESTS)),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts_them(arguments: tuple[str, ...]) -> None:
    ran = promtool(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_wrong_expectation_fails(tmp_path: Path) -> None:
    """promtool would also pass a file whose tests expect nothing."""
    wrong = TESTS.read_text().replace("../../deploy/monitoring/alerts.yml", str(MONITORING / "alerts.yml"))
    (tmp_path / "wrong.yml").write_text(wrong.replace("description: 9% is free.", "description: 8% is free."))
    assert promtool("test", "rules", str(tmp_path / "wrong.yml")).returncode != 0


def test_every_alert_fires_in_a_test() -> None:
    fired = {block.split()[0] for block in TESTS.read_text().split("alertname: ")[1:] if "exp_alerts" in block.split("- ")[0]}
    assert fired == of_alerts().keys()
