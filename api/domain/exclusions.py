"""Which options of a training exclude each other, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from api.domain.errors import FieldError, InvalidError
from api.domain.strategies import needs_single_updates
from api.domain.training_spec import TrainingSpec


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule is broken if `applies` is True for a training and its cluster's consensus.

    `other` is the option that excludes the one at `pointer`. `consensus` is that of the cluster.
    """

    pointer: str
    other: str
    reason: str
    applies: Callable[[TrainingSpec, str], bool]


_RULES: Final = (
    _Rule(
        "/secure_aggregation",
        "consensus",
        "a consensus judges every update by itself, and secure aggregation shows their sum alone",
        lambda spec, consensus: spec.secure_aggregation and consensus != "none",
    ),
    _Rule(
        "/strategy",
        "secure_aggregation",
        "this strategy looks at every update by itself, and secure aggregation shows their sum alone",
        lambda spec, _: spec.secure_aggregation and needs_single_updates(spec.strategy),
    ),
    _Rule(
        "/compression",
        "secure_aggregation",
        "masked updates are whole numbers that look random; only 'lora' without a further compression goes with them",
        lambda spec, _: spec.secure_aggregation and spec.compression not in ("none", "lora"),
    ),
    _Rule(
        "/federated",
        "secure_aggregation",
        "secure aggregation hides workers' updates; without federated training there are none",
        lambda spec, _: spec.secure_aggregation and not spec.federated,
    ),
    _Rule(
        "/differential_privacy",
        "consensus",
        "a consensus tells exact losses and scores of workers' records, which differential privacy does not cover",
        lambda spec, consensus: spec.differential_privacy is not None and consensus != "none",
    ),
    _Rule(
        "/hold_out",
        "consensus",
        "the committee of 'proof-of-learning' votes on held-out samples",
        lambda spec, consensus: not spec.hold_out and consensus == "proof-of-learning",
    ),
    _Rule(
        "/hold_out",
        "federated",
        "without federated training the workers hold no samples of their own",
        lambda spec, _: not spec.hold_out and not spec.federated,
    ),
    _Rule(
        "/mixed_precision",
        "differential_privacy",
        "the clipping that differential privacy counts on is done in fp32",
        lambda spec, _: spec.differential_privacy is not None and spec.mixed_precision,
    ),
    _Rule(
        "/initial_model",
        "differential_privacy",
        "epsilon would not count what the initial model has learned of the same records; "
        "if it has seen none of them, deploy the nodes with the export's path as `model`",
        lambda spec, _: spec.differential_privacy is not None and spec.initial_model is not None,
    ),
    _Rule(
        "/federated",
        "differential_privacy",
        "differential privacy is each worker's own; it is built for federated training",
        lambda spec, _: spec.differential_privacy is not None and not spec.federated,
    ),
)


def documented() -> list[Any]:
    """Return the rules as openapi.json lists them, for forms that warn before a request is sent."""
    return [{"options": [rule.pointer.removeprefix("/"), rule.other], "reason": rule.reason} for rule in _RULES]


def check(spec: TrainingSpec, consensus: str) -> None:
    """Check that the options of a training go together.

    Raises:
        InvalidError: `options_exclude_each_other`, with every broken rule.
    """
    broken = tuple(FieldError(rule.pointer, rule.reason) for rule in _RULES if rule.applies(spec, consensus))
    if broken:
        raise InvalidError("options_exclude_each_other", broken[0].message, errors=broken)
