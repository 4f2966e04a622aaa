"""OpenAPI links from an answer that creates a resource to the operations that take its id.

SDK generators and stateful tests follow them.
"""

from typing import Any

# The operations that create a resource, with the field of their answer that has its id.
_CREATED_ID = {
    "create_cluster": "cluster_id",
    "deploy_node": "node_id",
    "start_training": "training_id",
    "create_search": "search_id",
    "predict": "prediction_id",
    "export_model": "model_id",
    "start_execution": "execution_id",
    "create_key": "key_id",
}
_CREATED = ("201", "202")
# A path's sandbox_id may also be a node's id.
_ALIASES = {"node_id": ("sandbox_id",)}


def add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Add a link from each creating answer to each operation whose path takes the created id."""
    operations = [operation for methods in paths.values() for operation in methods.values()]
    for operation in operations:
        id_field = _CREATED_ID.get(operation["operationId"])
        if id_field is None:
            continue
        links = {
            other["operationId"]: _link(other["operationId"], parameter["name"], id_field)
            for other in operations
            for parameter in other.get("parameters", ())
            if parameter["in"] == "path" and parameter["name"] in (id_field, *_ALIASES.get(id_field, ()))
        }
        for status, answer in operation["responses"].items():
            if status in _CREATED:
                answer["links"] = {**links}


def _link(operation_id: str, parameter: str, id_field: str) -> dict[str, Any]:
    return {"operationId": operation_id, "parameters": {parameter: f"$response.body#/{id_field}"}}
