"""Codes of work that was accepted and failed later: trainings, predictions, exports, executions."""

from collections.abc import Mapping
from typing import Final

_RESUME: Final = "Look at the node's logs. Then resume the training."
_AGAIN: Final = "Try again. If it repeats, look at the node's logs."
_SMALLER: Final = "Choose a smaller `batch_size` or `max_length`, or a smaller model."
_OPTION: Final = "Drop the option, or choose another architecture."

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "refused": ("The training was refused.", "See `detail`."),
    "cancelled": ("It was cancelled.", "Start it again if it is still needed."),
    "stopped": ("It was stopped.", "Resume it if it is still needed."),
    "step_failed": ("A step of the control plane failed repeatedly.", "Report it with the id of the resource."),
    "agent_died": ("The program in a sandbox stopped answering repeatedly.", _SMALLER),
    "agent_failed": ("The program in a sandbox has a mistake.", "Report it with the node's logs."),
    "agent_not_ready": ("The program in the sandbox does not answer yet.", "Wait, or redeploy the node."),
    "agent_unreachable": (
        "The sandbox runs, but calls to its agent do not pass.",
        "Check the network between control plane and sandboxes.",
    ),
    "node_unreachable": ("A node's agent does not answer.", "Wait until the node runs again, or remove it."),
    "nodes_unreachable": ("No worker answers.", "Check the nodes of the cluster. Redeploy those that are lost."),
    "bad_answer": ("A node sent an answer of the wrong form.", "Redeploy the node."),
    "answer_too_large": ("A node sent more than is accepted.", "Predict fewer texts at once."),
    "sandbox_failed": ("A sandbox could not do what was asked.", _AGAIN),
    "sandbox_ended": ("The sandbox ended before the code did.", "Redeploy the node, and run the code again."),
    "end_unknown": ("It is not known how the code ended.", "Look at the sandbox's logs before running it again."),
    "delivery_failed": (
        "The receiver of a webhook did not take the message.",
        "Check the address. The receiver must answer with 2xx within ten seconds.",
    ),
    "export_failed": ("The copy of the model failed.", "Export the model again."),
    "export_missing": ("There is no exported model at this path.", "Check the path, or export the model first."),
    "bad_export": ("The export cannot be used.", "Use a folder or a tar that `export_model` has made."),
    "aggregator_lost": ("The aggregator's sandbox is gone.", "Redeploy the aggregator and resume the training."),
    "no_majority": ("The workers could not elect a new aggregator.", _RESUME),
    "quorum_lost": ("Too few workers are left for a round.", "Redeploy the lost workers and resume the training."),
    "quorum_not_met": ("Too few updates arrived or were accepted.", "See the workers of the round. Then resume the training."),
    "round_failed": ("A round failed.", _RESUME),
    "round_stopped": ("The round was stopped.", "Resume the training if it is still needed."),
    "deadline": ("The round did not end in time.", "Choose a longer `round_deadline_s`, then resume the training."),
    "declined": ("The node declined the round by its own decision.", "Lower its autonomy if that is not wanted."),
    "attempts_exhausted": ("The round broke too often.", _RESUME),
    "diverged": ("The loss of a worker became infinite.", "Choose a lower `learning_rate`."),
    "out_of_memory": ("A batch does not fit into the memory of a node.", _SMALLER),
    "nothing_measured": ("No training of the search has the metric.", "Choose another metric, or upload a validation file."),
    "model_unavailable": ("The node's sandbox does not have the model.", "Check `model` of the nodes."),
    "unknown_model": ("There is no such model.", "Check the id or path of the model."),
    "pretrained_missing": ("The sandbox does not have the weights of the model.", "Build the template with the weights."),
    "wrong_architecture": ("The model is of another architecture than the cluster.", "Create a cluster with its architecture."),
    "architecture_unavailable": ("The agent does not have this architecture.", "Create a cluster with another one."),
    "strategy_unavailable": ("The agent does not have this strategy.", "Build the template of the same version."),
    "consensus_unavailable": ("The agent does not have this consensus.", "Build the template of the same version."),
    "lora_unavailable": ("The architecture has no layers for adapters.", _OPTION),
    "freeze_unavailable": ("The architecture has no layers that can be frozen.", _OPTION),
    "too_many_layers": ("The model has fewer layers than `freeze_layers`.", "Freeze fewer layers."),
    "max_length_too_long": ("The model reads fewer tokens than `max_length`.", "Choose a smaller `max_length`."),
    "differential_privacy_unavailable": ("The model cannot be trained with differential privacy.", _OPTION),
    "bad_labels": ("A classifier needs at least two different labels.", "Use data with at least two classes."),
    "onnx_failed": ("The ONNX graph does not compute what the model does.", "Set `wasm_optimization` to false."),
    "replicas_differ": ("The workers did not end with the same model.", "Resume the training."),
}
