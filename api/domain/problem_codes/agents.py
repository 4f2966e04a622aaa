"""Codes with which agents refuse each other's messages and updates."""

from collections.abc import Mapping
from typing import Final

_NODE: Final = "Look at the logs of the node that `detail` names. Redeploy it if it repeats."
_TRUST: Final = "Find out whether the node's program was changed. Remove the node if it was."
_VERSION: Final = "Build the template of the same version as the control plane."
_NETWORK: Final = "Check the network between the sandboxes, then resume the training."

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "malformed_update": ("An update is not in the expected format.", _TRUST),
    "wrong_shapes": ("An update does not have the model's shapes.", _TRUST),
    "wrong_author": ("An update came with another node's report.", _TRUST),
    "not_finite": ("An update holds NaN or infinity.", "Choose a lower `learning_rate`."),
    "norm_exceeded": ("An update is too far from the global model.", _TRUST),
    "no_samples": ("An update has no plausible number of samples.", _TRUST),
    "no_evidence": ("An update came without its proof of learning.", _TRUST),
    "other_model": ("A node sent another model than the training's.", _TRUST),
    "other_nonce": ("The answer belongs to another audit.", _TRUST),
    "nothing_to_replay": ("The worker cannot repeat the round of an audit.", _NODE),
    "digest_mismatch": ("A node sent another model than was asked for.", _TRUST),
    "bad_digest": ("A digest is malformed.", _VERSION),
    "bad_graph": ("The name of a graph is malformed.", _VERSION),
    "unknown_graph": ("An agent does not have the graph.", _NODE),
    "bad_id": ("An id is malformed.", _VERSION),
    "invalid_message": ("An agent could not read a message.", _VERSION),
    "unknown_route": ("An agent does not know a route.", _VERSION),
    "unknown_round": ("An agent does not know the round any more.", _NODE),
    "unknown_training": ("An agent does not know the training any more.", _NODE),
    "unknown_attempt": ("An agent does not know the attempt any more.", _NODE),
    "not_an_aggregator": ("The node is not an aggregator.", _VERSION),
    "not_expected": ("No update of this node is expected.", _NODE),
    "not_for_you": ("The caller's role may not use this route of the agent.", _TRUST),
    "not_the_author": ("A node tried to speak for another one.", _TRUST),
    "unauthorized": ("A caller of an agent has no valid token.", _TRUST),
    "too_large": ("An update is too large.", _TRUST),
    "disconnected": ("The sender disconnected before its message ended.", _NETWORK),
    "exchange_over": ("The worker has left the exchange of models.", _NETWORK),
    "not_ready": ("A part of a model is not there yet.", _NETWORK),
    "no_mean": ("No worker has the mean of the models.", _NETWORK),
    "bad_part": ("A part of a model has the wrong length.", _VERSION),
    "peer_failed": ("A node failed to answer another node.", _NETWORK),
    "peer_left": ("A node has left the exchange of models.", _NETWORK),
    "peer_lost": ("A node cannot be reached by another node.", _NETWORK),
    "peer_slow": ("A node did not answer another node in time.", _NETWORK),
    "pull_failed": ("A model could not be fetched from a node.", _NETWORK),
    "push_failed": ("An update could not be sent to a node.", _NETWORK),
    "below_threshold": ("Too few workers are left to reveal the masked sum.", "Deploy more workers, then resume."),
    "sum_failed": ("The masked sum of the updates failed.", "Resume the training."),
    "bad_keys": ("The aggregator passed on other keys than the workers sent.", _TRUST),
    "bad_share": ("A share of a secret is wrong.", _TRUST),
    "bad_shares": ("The shares of a secret do not fit together.", _TRUST),
    "already_revealed": ("The worker has revealed its shares already.", _TRUST),
    "already_unmasked": ("Another sum of this round was unmasked before.", _TRUST),
    "not_in_the_sum": ("The keys of the worker came too late for the sum.", _NETWORK),
}
