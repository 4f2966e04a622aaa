"""Every operation of openapi.json with generated requests.

No answer is an undocumented 5xx, and every answer is as documented.
"""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.openapi_file import OPENAPI_JSON
from tests.fuzz.conftest import CASES, FUZZING, World, without_wait

pytestmark = pytest.mark.timeout(7200)
schema = schemathesis.openapi.from_dict(json.loads(OPENAPI_JSON.read_text()))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# OpenAPI 3.1 describes an event stream as text, and schemathesis would check each event.
STREAMS = ("stream_cluster_events", "stream_training_events")
# No Redis and no Celery run here, and a 503 says so.
READINESS = "get_readiness"
ENDING = ("terminate_cluster", "remove_node", "stop_training", "stop_search")
EXAMPLES = max(3, CASES // schema.statistic.operations.total)


@schema.parametrize()
@settings(FUZZING, max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate])
def test_every_answer_is_as_documented(case: schemathesis.Case[Any], url: str, world: World) -> None:
    name = case.operation.definition.raw["operationId"]
    known = world.spare if name in ENDING else world.ids
    case.path_parameters = {key: _known(known.get(key), value) for key, value in (case.path_parameters or {}).items()}
    if name in STREAMS:
        case.query = {**(case.query or {}), "follow": "false"}
    left_out = {response_schema_conformance} if name in STREAMS else {not_a_server_error} if name == READINESS else set()
    checks = [check for check in CHECKS if check not in left_out]
    without_wait(case).call_and_validate(url, checks=checks, **world.call)


def _known(real: str | None, made_up: Any) -> Any:
    """Replace about half of the generated ids by ids of existing resources."""
    return real if real and len(str(made_up)) % 2 == 0 else made_up
