"""Sequences of operations along the links of openapi.json.

Later requests use and end the resources that earlier answers created.
"""

import json
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test
from requests import Response
from schemathesis import GenerationMode

from api.openapi_file import OPENAPI_JSON
from tests.fuzz.conftest import CASES, FUZZING, World, without_wait
from tests.fuzz.test_operations import CHECKS, STREAMS

pytestmark = pytest.mark.timeout(7200)
_STEPS = 10
_document = json.loads(OPENAPI_JSON.read_text())
# OpenAPI 3.1 describes an event stream as text, and schemathesis would check each event.
_schema = schemathesis.openapi.from_dict(_document).exclude(operation_id=list(STREAMS))
_schema.config.checks.update(included_check_names=[check.__name__ for check in CHECKS])
# A refused request creates nothing to continue with. test_operations.py sends wrong requests.
_schema.config.generation.update(modes=[GenerationMode.POSITIVE])


def test_every_sequence_along_the_links_is_answered_as_documented(url: str, world: World) -> None:
    made: set[str] = set()
    followed: Counter[str] = Counter()

    failures: list[BaseException] = []
    begun = 0

    class Links(_schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            nonlocal begun
            begun += 1

        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            without_wait(case)
            return {"base_url": url, **world.call}

        def validate_response(self, response: Response, case: schemathesis.Case[Any], **options: Any) -> None:
            try:
                super().validate_response(response, case, **options)
            except BaseException as error:
                failures.append(error)
                raise

        def after_call(self, response: Response, case: schemathesis.Case[Any]) -> None:
            super().after_call(response, case)
            definition = case.operation.definition.raw
            if response.status_code < 300 and made & {str(value) for value in (case.path_parameters or {}).values()}:
                followed[definition["operationId"]] += 1
            if response.status_code < 300 and any("links" in answer for answer in definition["responses"].values()):
                made.update(value for key, value in response.json().items() if key.endswith("_id") and isinstance(value, str))

    wanted = max(5, CASES // _STEPS)
    while begun < wanted:
        plan = settings(FUZZING, max_examples=wanted - begun, stateful_step_count=_STEPS, phases=[Phase.generate])
        try:
            run_state_machine_as_test(seed(begun)(Links), settings=plan)
        except FlakyStrategyDefinition:
            # Hypothesis repeated the start of an earlier sequence, but the state has changed since.
            # So other links can be followed.
            assert not failures, failures
    assert made, "nothing was made, so that no link could be followed"
    assert followed, "nothing that was made was asked for again"
