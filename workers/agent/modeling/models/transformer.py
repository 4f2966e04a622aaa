"""`transformer`: a BERT encoder, trained from scratch.

Devlin et al., NAACL 2019, arXiv:1810.04805.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

POSITIONS = 512


@dataclass(frozen=True, slots=True)
class TransformerSize:
    layers: int
    width: int
    heads: int
    feed_forward: int


SIZES = {"base": TransformerSize(2, 128, 4, 512), "large": TransformerSize(4, 256, 4, 1024)}
DROPOUT = 0.2
CODE = "modeling_transformer.py"


def make(size: TransformerSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """Build the model.

    `common` are the options of any transformers config: vocab_size, pad_token_id and the label
    names.
    """
    from workers.agent.modeling.models.modeling_transformer import TransformerConfig, TransformerForSequenceClassification

    return TransformerForSequenceClassification(
        TransformerConfig(
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=size.feed_forward,
            max_position_embeddings=max_length,
            type_vocab_size=1,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=0.0,
            **common,
        )
    )
