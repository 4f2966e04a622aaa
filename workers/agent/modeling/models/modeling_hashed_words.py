"""What all models from scratch share: a deep network, and a linear path beside it.

The linear path is a linear classifier over hashed words and pairs of words. Its logits are added to
those of the deep network ("wide and deep": Cheng et al., 2016, arXiv:1606.07792). It learns quickly
what single words and pairs say (fastText: Joulin et al., EACL 2017, arXiv:1607.01759). So a model
is not worse than a bag of words where the texts are few or long.

Every export of such a model contains a copy of this file. So it imports only torch and
transformers.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

_PAIRS = 2**16
_WIDTH = 8
# Adam moves each weight by about the learning rate. This factor lets a rare word count after one
# epoch. It works for every optimizer, and needs no learning rate of its own.
_SCALE = 8.0
_CLS, _FIRST_WORD = 2, 4


class LinearPath(nn.Module):
    """Logits from the counts of words and pairs of words.

    `table.weight` has shape (ids + pairs, 8). It does not depend on the classes. It starts at zero.
    A row that is zero after a training belongs to no word of its texts.
    `output.weight` has shape (classes, 8). Like the head's weight it has one row for each class.
    """

    def __init__(self, vocab_size: int, classes: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.table = nn.Embedding(vocab_size + _PAIRS, _WIDTH)
        self.output = nn.Linear(_WIDTH, classes, bias=False)
        nn.init.zeros_(self.table.weight)
        # Up to 8 classes have a column of the table each. More classes share them, in directions of
        # their own (error-correcting codes: Dietterich and Bakiri, 1995).
        nn.init.eye_(self.output.weight)
        if classes > _WIDTH:
            nn.init.normal_(self.output.weight, std=_WIDTH**-0.5)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Map ids (texts, tokens) to logits (texts, classes).

        Padding and [UNK] do not count.
        """
        first, second = input_ids[:, :-1], input_ids[:, 1:]
        pairs = self.vocab_size + (first * 40_503 + second * 30_011) % _PAIRS
        is_pair = (first >= _CLS) & (second >= _CLS)
        counts = torch.cat([input_ids >= _FIRST_WORD, is_pair], dim=1).to(self.table.weight.dtype)
        rows = self.table(torch.cat([input_ids, pairs], dim=1))
        total = torch.bmm(counts.unsqueeze(1), rows).squeeze(1)
        logits: torch.Tensor = self.output(total * (_SCALE / counts.sum(1, keepdim=True).clamp_min(1).sqrt()))
        return logits


class WithLinearPath:
    """Adds a linear path to the classifier that a class inherits from.

    The deep network reads the first `config.deep_tokens` tokens of a text. If texts are padded on
    the left, it reads the last. The linear path reads all of them.
    """

    PADS_LEFT = False
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.linear_path = LinearPath(config.vocab_size, config.num_labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
        """Map ids and mask, both (texts, tokens), to an output with logits (texts, classes)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        tokens: int = self.config.deep_tokens
        read = slice(-tokens, None) if self.PADS_LEFT else slice(tokens)
        result = super().forward(input_ids=input_ids[:, read], attention_mask=mask[:, read])  # type: ignore[misc]
        result.logits = result.logits + self.linear_path(input_ids)
        return result


class HashedWordModel(PreTrainedModel):
    """The base of the networks that are not part of transformers."""

    main_input_name = "input_ids"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.normal_(module.weight, std=0.1)
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
