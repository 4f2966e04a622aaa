"""BERT classifiers with random weights and a given file size.

They have the format that `from_pretrained` reads.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertForSequenceClassification
from transformers.models.bert.tokenization_bert import BertTokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class ResponseModel:
    name: str
    words: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int


SHAPES = {1: ResponseModel("1 MB", 1500, 96, 1, 2, 384, 32), 87: ResponseModel("87 MB", 30_522, 384, 6, 12, 1536, 512)}
"""Sizes in MiB. The larger model has the configuration of all-MiniLM-L6."""


def save(shape: ResponseModel, folder: Path) -> list[Path]:
    """Write the model and a word tokenizer; return the files."""
    folder.mkdir(parents=True)
    words = [*SPECIALS, *(f"word{index}" for index in range(shape.words - len(SPECIALS)))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=shape.words,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return sorted(path for path in folder.iterdir() if path.is_file())
