"""BERT encoder of transformers with a linear path beside it.

Every export of a `transformer` from scratch contains a copy of this file. So it imports only
transformers, and another file of the export. The type of the config is not the one of
transformers: it would load the network without its linear path.
"""

from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertForSequenceClassification

from .modeling_hashed_words import WithLinearPath


class TransformerConfig(BertConfig):
    model_type = "flow_nexus_transformer"


class TransformerForSequenceClassification(WithLinearPath, BertForSequenceClassification):
    """The network and a linear path beside it."""

    config_class = TransformerConfig
