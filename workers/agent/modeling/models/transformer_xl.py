"""`transformer-xl`: XLNet (Yang et al., NeurIPS 2019, arXiv:1906.08237), trained from scratch.

transformers no longer contains Transformer-XL itself (Dai et al., ACL 2019, arXiv:1901.02860).
XLNet is its maintained successor by the same authors. Both have relative position encodings, so no
length is built in. Both have recurrence over segments (`mems`). Here a text is one segment of at
most `max_length` tokens. The head reads the last token, so padding is on the left.
"""

from typing import Any

from torch import nn

from workers.agent.modeling.models.transformer import DROPOUT, TransformerSize
from workers.agent.modeling.models.transformer import SIZES as SIZES

CODE = "modeling_transformer_xl.py"


def make(size: TransformerSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    """Build the model. `common` are the options of any transformers config."""
    from workers.agent.modeling.models.modeling_transformer_xl import (
        TransformerXlConfig,
        TransformerXlForSequenceClassification,
    )

    return TransformerXlForSequenceClassification(
        TransformerXlConfig(
            d_model=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            d_inner=size.feed_forward,
            dropout=DROPOUT,
            summary_last_dropout=DROPOUT,
            summary_type="last",
            use_mems_eval=False,
            use_mems_train=False,
            mem_len=None,
            **common,
        )
    )
