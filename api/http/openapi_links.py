"""Links: what may be done next with what an answer has made. SDK generators and stateful tests follow them."""

from typing import Any

# What each of these operations makes, by the field of its answer that names it.
_MAKES = {
    "create_cluster": "cluster_id",
    "deploy_node": "node_id",
    "start_training": "training_id",
    "create_search": "search_id",
    "predict": "prediction_id",
    "export_model": "model_id",
    "create_key": "key_id",
}
# A node's sandbox answers to the node's id too.
_ALSO = {"node_id": ("sandbox_id",)}


def add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Give every answer that makes something a link to each operation whose path names it."""
    operations = [operation for methods in paths.values() for operation in methods.values()]
    for operation in operations:
        made = _MAKES.get(operation["operationId"])
        if made is None:
            continue
        links = {
            other["operationId"]: _link(other["operationId"], parameter["name"], made)
            for other in operations
            for parameter in other.get("parameters", ())
            if parameter["in"] == "path" and parameter["name"] in (made, *_ALSO.get(made, ()))
        }
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                answer["links"] = links


def _link(operation_id: str, parameter: str, made: str) -> dict[str, Any]:
    return {"operationId": operation_id, "parameters": {parameter: f"$response.body#/{made}"}}
