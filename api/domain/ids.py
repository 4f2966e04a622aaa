"""Identifiers: a readable prefix and a random part (a-z, 0-9), too long to guess."""

import re
import secrets
import string
from typing import Final

_ALPHABET = string.ascii_lowercase + string.digits
_NODE_MARK = {"worker": "w", "aggregator": "ps", "validator": "v"}
MODEL_PREFIX: Final = "mdl_"
TRAINING_PREFIX: Final = "train_"
_AGGREGATION_MARK = {"ensemble": "ens", "majority": "maj", "weighted": "wgt", "mean": "mean", "global": "glob"}
_NOUNS = {
    "cls": "cluster",
    "node": "node",
    "train": "training",
    "search": "search",
    "pred": "prediction",
    "mdl": "model",
    "exec": "execution",
}
_ID = re.compile(rf"({'|'.join(_NOUNS)})_(?:[a-z0-9]{{1,8}}_)?[a-z0-9]{{10}}")


def random_part(length: int = 10) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def project_id() -> str:
    return f"prj_{random_part()}"


def key_id() -> str:
    return f"key_{random_part()}"


def audit_id() -> str:
    return f"aud_{random_part(16)}"


def cluster_id() -> str:
    return f"cls_{random_part()}"


def node_id(role: str, ordinal: int) -> str:
    """Return a node's id. `ordinal` counts the nodes of this role in the cluster from 1.

    The id of an aggregator has no ordinal, because a cluster has one aggregator.
    """
    mark = _NODE_MARK[role]
    return f"node_{mark}{'' if role == 'aggregator' else ordinal}_{random_part()}"


def training_id(federated: bool) -> str:
    return f"{TRAINING_PREFIX}{'fed' if federated else 'ddp'}_{random_part()}"


def prediction_id(aggregation: str) -> str:
    return f"pred_{_AGGREGATION_MARK[aggregation]}_{random_part()}"


def model_id() -> str:
    return f"{MODEL_PREFIX}{random_part()}"


def execution_id() -> str:
    return f"exec_{random_part()}"


def webhook_id() -> str:
    return f"hook_{random_part()}"


def delivery_id() -> str:
    """Return the id of a delivery, which receivers see as `webhook-id`."""
    return f"msg_{random_part(24)}"


def search_id() -> str:
    return f"search_{random_part()}"


def field_of(text: str) -> str | None:
    """Return the name of the JSON field that has such an id, or None where `text` is no id."""
    match = _ID.fullmatch(text)
    return f"{_NOUNS[match.group(1)]}_id" if match else None
