"""Every step has its Celery task, under its own name."""

import ast
from pathlib import Path

from api.domain.steps import PeriodicStep, Step

TASKS = Path(__file__).resolve().parents[3] / "workers" / "tasks.py"


def test_every_step_has_one_task() -> None:
    functions = [node for node in ast.parse(TASKS.read_text()).body if isinstance(node, ast.FunctionDef)]
    registered = {ast.unparse(function.decorator_list[0]): function.name for function in functions}
    expected = [(f"Step.{step.name}", step.name) for step in Step]
    expected += [(f"PeriodicStep.{step.name}", step.name) for step in PeriodicStep]
    assert registered == {f"app.task(name=task_name({member}))": name.lower() for member, name in expected}
