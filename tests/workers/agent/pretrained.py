"""A pretrained model that is small enough to create in a test."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tests.workers.agent.texts import WORDS


def save_tiny_bert(folder: Path) -> dict[str, torch.Tensor]:
    """Save an encoder without a head, and its tokenizer. Return its weights."""
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = BertModel(
            BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64,
            )
        )
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return dict(model.state_dict())
