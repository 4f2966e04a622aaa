"""Every step has its Celery task, under its own name."""

import re
from pathlib import Path

from api.domain.steps import PeriodicStep, Step

TASKS = Path(__file__).resolve().parents[3] / "workers" / "tasks.py"
_TASK = re.compile(r"@app\.task\(name=task_name\((\w+)\.(\w+)\)\)\ndef (\w+)\(")


def test_every_step_has_one_task() -> None:
    expected = [("Step", step.name, step.name.lower()) for step in Step]
    expected += [("PeriodicStep", step.name, step.name.lower()) for step in PeriodicStep]
    assert sorted(_TASK.findall(TASKS.read_text())) == sorted(expected)
