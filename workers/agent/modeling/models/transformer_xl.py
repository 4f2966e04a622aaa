"""`transformer-xl`: XLNet (Yang et al., NeurIPS 2019, arXiv:1906.08237), from scratch.

transformers no longer ships Transformer-XL itself (Dai et al., ACL 2019, arXiv:1901.02860). XLNet is its maintained heir by
the same authors: the same relative position encodings, so no length is built in, and the same recurrence over segments
(`mems`). A text here is one segment of at most `max_length` tokens. Its head reads the last token: padding is on the left.
"""

from typing import Any

from torch import nn

from workers.agent.modeling.models.transformer import DROPOUT, TransformerSize
from workers.agent.modeling.models.transformer import SIZES as SIZES


def make(size: TransformerSize, max_length: int, common: dict[str, Any]) -> nn.Module:
    from transformers.models.xlnet.configuration_xlnet import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetForSequenceClassification

    return XLNetForSequenceClassification(
        XLNetConfig(
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
