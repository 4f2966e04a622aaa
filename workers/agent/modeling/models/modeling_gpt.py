"""GPT-2 decoder of transformers with a linear path beside it.

Every export of a `gpt` from scratch contains a copy of this file. So it imports only
transformers, and another file of the export. The type of the config is not the one of
transformers: it would load the network without its linear path.
"""

from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2ForSequenceClassification

from .modeling_hashed_words import WithLinearPath


class GptConfig(GPT2Config):
    model_type = "flow_nexus_gpt"


class GptForSequenceClassification(WithLinearPath, GPT2ForSequenceClassification):
    """The network and a linear path beside it."""

    config_class = GptConfig
