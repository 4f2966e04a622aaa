"""`transformer-xl`: XLNet (Yang et al., NeurIPS 2019, arXiv:1906.08237), from scratch.

transformers no longer ships Transformer-XL itself (Dai et al., ACL 2019, arXiv:1901.02860). XLNet is its maintained heir by
the same authors: the same relative position encodings, so no length is built in, and the same recurrence over segments
(`mems`). A text here is one segment of at most `max_length` tokens. Its head reads the last token: padding is on the left.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class Size:
    layers: int
    width: int
    heads: int
    feed_forward: int


SIZES = {"base": Size(2, 128, 4, 512), "large": Size(4, 256, 4, 1024)}
_DROPOUT = 0.2


def make(size: Size, max_length: int, common: dict[str, Any]) -> nn.Module:
    from transformers.models.xlnet.configuration_xlnet import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetForSequenceClassification

    return XLNetForSequenceClassification(
        XLNetConfig(
            d_model=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            d_inner=size.feed_forward,
            dropout=_DROPOUT,
            summary_last_dropout=_DROPOUT,
            summary_type="last",
            use_mems_eval=False,
            use_mems_train=False,
            mem_len=None,
            **common,
        )
    )
