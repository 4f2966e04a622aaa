"""Options that exclude each other are refused with field and reason. Others are accepted."""

from typing import Any

import pytest

from api.domain import exclusions
from api.domain.errors import InvalidError
from api.domain.training_spec import TrainingSpec
from api.schemas.trainings import TrainingCreate

SECURE: dict[str, Any] = {"secure_aggregation": True}
PRIVATE: dict[str, Any] = {"differential_privacy": {"target_epsilon": 8}}


def spec(**fields: Any) -> TrainingSpec:
    return TrainingCreate.model_validate({"dataset": "/data/x.json", "epochs": 1, **fields}).spec()


@pytest.mark.parametrize(
    ("fields", "consensus", "pointers"),
    [
        (SECURE, "proof-of-learning", ["/secure_aggregation"]),
        (SECURE, "gossip", ["/secure_aggregation"]),
        *[
            ({**SECURE, "strategy": strategy}, "none", ["/strategy"])
            for strategy in ("median", "trimmed_mean", "krum", "multi_krum", "bulyan")
        ],
        *[
            ({**SECURE, "compression": word}, "none", ["/compression"])
            for word in ("fp16", "int8", "topk", "topk+fp16", "topk+int8", "lora+fp16", "lora+int8")
        ],
        ({**SECURE, "gradient_compression": True}, "none", ["/compression"]),
        ({**SECURE, "federated": False}, "none", ["/federated"]),
        (PRIVATE, "proof-of-learning", ["/differential_privacy"]),
        (PRIVATE, "byzantine", ["/differential_privacy"]),
        ({"hold_out": False}, "proof-of-learning", ["/hold_out"]),
        ({"hold_out": False, "federated": False}, "none", ["/hold_out"]),
        ({**PRIVATE, "mixed_precision": True}, "none", ["/mixed_precision"]),
        ({**PRIVATE, "federated": False}, "none", ["/federated"]),
        ({**PRIVATE, "initial_model": "mdl_4k2j9x"}, "none", ["/initial_model"]),
        (
            {**SECURE, **PRIVATE, "strategy": "krum", "compression": "int8", "mixed_precision": True},
            "raft",
            ["/secure_aggregation", "/strategy", "/compression", "/differential_privacy", "/mixed_precision"],
        ),
    ],
)
def test_what_cannot_go_together_is_refused_by_name(fields: dict[str, Any], consensus: str, pointers: list[str]) -> None:
    with pytest.raises(InvalidError) as refused:
        exclusions.check(spec(**fields), consensus)
    assert refused.value.code == "options_exclude_each_other"
    assert [error.pointer for error in refused.value.errors] == pointers


@pytest.mark.parametrize(
    "fields",
    [
        {**SECURE, **PRIVATE},
        *[
            {**SECURE, "strategy": strategy}
            for strategy in ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "diloco")
        ],
        {**SECURE, "compression": "lora"},
        {**SECURE, "freeze_layers": 2, "mixed_precision": True},
        *[{**PRIVATE, "strategy": strategy} for strategy in ("fedavg", "fedadam", "median", "krum", "diloco")],
        *[{**PRIVATE, "compression": word} for word in ("int8", "topk+int8", "lora", "lora+fp16")],
        {**PRIVATE, "freeze_layers": 2},
        {"hold_out": False},
        {**PRIVATE, "hold_out": False},
        {},
    ],
)
def test_what_can_go_together_does(fields: dict[str, Any]) -> None:
    exclusions.check(spec(**fields), "none")


def test_without_protections_a_consensus_is_nobodys_business() -> None:
    exclusions.check(spec(mixed_precision=True, strategy="krum"), "proof-of-learning")


@pytest.mark.parametrize("given", [{}, {"target_epsilon": 8, "noise_multiplier": 1.0}, {"delta": 1e-5}])
def test_differential_privacy_takes_one_of_epsilon_and_noise(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as refused:
        spec(differential_privacy=given)
    assert [error.pointer for error in refused.value.errors] == ["/differential_privacy"]


@pytest.mark.parametrize(("workers", "fields"), [(1, {}), (2, {}), (5, {"fraction": 0.4})])
def test_a_secure_sum_needs_three_workers_in_a_round(workers: int, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as refused:
        spec(**SECURE, **fields).check_workers(workers)
    assert (refused.value.code, refused.value.errors[0].pointer) == ("too_few_workers", "/secure_aggregation")
    spec(**SECURE, **fields).check_workers(8)


def test_every_rule_is_documented_with_options_that_exist() -> None:
    rules = exclusions.documented()
    known = {*TrainingCreate.model_fields, "consensus"}
    assert all(set(rule["options"]) <= known and len(set(rule["options"])) == 2 for rule in rules)
    assert {"options": ["mixed_precision", "differential_privacy"], "reason": rules[7]["reason"]} in rules
    assert TrainingCreate.model_json_schema()["x-exclusions"] == rules
