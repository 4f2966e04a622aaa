"""Codes of requests that the current state of a resource does not allow."""

from collections.abc import Mapping
from typing import Final

_WAIT: Final = "Wait until it has ended, or stop it."
_CONNECT: Final = "Deploy or redeploy it, wait until it runs, and connect the cluster again."

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "cluster_terminated": ("The cluster is terminated or being terminated.", "Create a new cluster."),
    "training_active": ("A training still runs in the cluster.", _WAIT),
    "search_active": ("A search still runs in the cluster.", _WAIT),
    "node_in_use": ("A training uses the node.", "Stop the training first."),
    "node_not_lost": ("Only a node whose sandbox is gone gets a new one.", "Use the node as it is."),
    "node_sealed": ("The node already holds its data owner's data.", "Deploy another node for another key."),
    "not_a_data_node": ("An aggregator has no data owner.", "Choose a worker or a validator."),
    "nodes_not_ready": ("Some nodes of the cluster are still starting.", "Wait until they run. `Prefer: wait` holds for it."),
    "no_workers": ("The cluster has no running worker.", _CONNECT),
    "no_aggregator": ("The cluster has no running aggregator.", _CONNECT),
    "aggregator_exists": ("The cluster already has an aggregator.", "Remove that node first."),
    "not_connected": ("The cluster is not connected.", "Call `connect` after all nodes run."),
    "models_differ": ("The workers were deployed with different models.", "Deploy all workers with one model."),
    "aggregator_too_small": ("The aggregator cannot hold the workers' model.", "Deploy an aggregator with that model."),
    "too_few_workers": ("The option needs more workers.", "Deploy more workers, or change the option."),
    "idempotency_key_reused": (
        "The `Idempotency-Key` came with another request before.",
        "Use a new key for each different request.",
    ),
    "key_made_before": ("The request has already created a key and shown its secret.", "Rotate that key for a new secret."),
    "too_many_webhooks": ("The project has 20 webhooks already.", "Delete one that is not needed."),
    "webhook_disabled": ("The webhook is off.", "Set `enabled` to true first."),
    "event_removed": ("The event of the delivery was deleted.", "Read newer events."),
    "key_not_valid": ("The key is expired or revoked.", "Create a new key."),
    "name_taken": ("Another model of the training has this name.", "Choose another name."),
    "no_model": ("The training has no global model yet.", "Wait for its first completed round."),
    "model_not_ready": ("The export is not completed.", "Wait until the model's status is `completed`."),
    "model_lost": ("No node has the training's newest model any more.", "Start a new training."),
    "archive_missing": ("The archive of the model was deleted.", "Export the model again while its cluster runs."),
    "export_first": ("The model exists only in its cluster.", "Export it. Then use the id of the exported model."),
    "initial_model_differs": (
        "The initial model does not fit the cluster's model.",
        "Use a model of the same architecture and size.",
    ),
    "initial_model_changed": ("The initial model changed while the training began.", "Start the training again."),
    "not_completed": ("The prediction has no results.", "Wait until its status is `completed`."),
    "not_resumable": ("The training cannot be resumed or extended in this status.", "See `detail` for what is possible."),
    "trial_of_search": ("A training of a search cannot be resumed.", "Start an ordinary training with its options."),
    "epsilon_spent": ("More epochs would exceed the privacy budget.", "Start a training with a larger `target_epsilon`."),
    "sandbox_not_running": ("The node has no running sandbox.", "Wait until the node runs, or redeploy it."),
    "sandbox_gone": ("The sandbox does not exist any more.", "Redeploy the node, and upload its files again."),
    "sandbox_full": ("The disk of the sandbox is full.", "Delete files that are not needed."),
    "unsupported_by_sandbox": ("This sandbox cannot do that.", "Deploy the node with another template."),
    "service_not_ready": ("A part of the service does not work.", "See `detail` of the part whose `ok` is false."),
    "provider_unavailable": ("The sandbox provider did not answer in time.", "Try again. `/readyz` shows its state."),
    "provider_failed": ("The sandbox provider failed.", "Try again. `/readyz` shows its state."),
    "database_unavailable": ("The database cannot be reached.", "Try again after `Retry-After` seconds."),
    "too_many_streams": ("The server already serves its largest number of event streams.", "Read the events in pages."),
}
