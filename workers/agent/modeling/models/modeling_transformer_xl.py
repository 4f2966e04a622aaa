"""XLNet of transformers with a linear path beside it.

Every export of a `transformer-xl` from scratch contains a copy of this file. So it imports only
transformers, and another file of the export. The type of the config is not the one of
transformers: it would load the network without its linear path.
"""

from transformers.models.xlnet.configuration_xlnet import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetForSequenceClassification

from .modeling_hashed_words import WithLinearPath


class TransformerXlConfig(XLNetConfig):
    model_type = "flow_nexus_transformer_xl"


class TransformerXlForSequenceClassification(WithLinearPath, XLNetForSequenceClassification):
    """The network and a linear path beside it."""

    config_class = TransformerXlConfig

    PADS_LEFT = True
