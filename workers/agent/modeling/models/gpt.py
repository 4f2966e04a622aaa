"""`gpt`: a causal decoder with a classification head on its last token, trained from scratch.

GPT-2: Radford et al., 2019. Texts are padded on the right. Attention is causal, so the padding does
not affect the text.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class GptSize:
    layers: int
    width: int
    heads: int


SIZES = {"base": GptSize(2, 128, 4), "large": GptSize(4, 256, 4)}
_DROPOUT = 0.2
CODE = "modeling_gpt.py"


def make(size: GptSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """Build the model. `common` are the options of any transformers config."""
    from workers.agent.modeling.models.modeling_gpt import GptConfig, GptForSequenceClassification

    return GptForSequenceClassification(
        GptConfig(
            n_layer=size.layers,
            n_embd=size.width,
            n_head=size.heads,
            n_positions=max_length,
            embd_pdrop=_DROPOUT,
            resid_pdrop=_DROPOUT,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
            **common,
        )
    )
