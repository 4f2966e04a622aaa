"""The hashed-word tokenizer as a transformers tokenizer.

Every export of a model trained from scratch contains a copy of this file.
`AutoTokenizer.from_pretrained(folder, trust_remote_code=True)` finds it through `auto_map` in
tokenizer_config.json. A tokenizer.json cannot describe it: hashing gives every possible word an id,
but a vocabulary file has finitely many words.
"""

from typing import Any

from transformers import PreTrainedTokenizer

from .hashed_words import BUCKETS, CLS, PAD, SEP, SPECIALS, UNK, VOCAB_SIZE, word_id, words


class HashedWordTokenizer(PreTrainedTokenizer):
    """Tokenizer whose ids are hashes of words.

    Ids 0..3 are [PAD], [UNK], [CLS], [SEP]. Id 4 + b is bucket b. Its token is `#b`, because a hash
    does not give the word back.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        for name, index in (("pad", PAD), ("unk", UNK), ("cls", CLS), ("sep", SEP)):
            kwargs.setdefault(f"{name}_token", SPECIALS[index])
        # "[SEP]" in a text is a plain word, in training and here.
        kwargs.setdefault("split_special_tokens", True)  # untyped: arguments of transformers
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    @property
    def vocab_size(self) -> int:
        return VOCAB_SIZE

    def get_vocab(self) -> dict[str, int]:
        return {self._convert_id_to_token(index): index for index in range(VOCAB_SIZE)}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return words(text)

    def _convert_token_to_id(self, token: str) -> int:
        if token in SPECIALS:
            return SPECIALS.index(token)
        if token.startswith("#") and token[1:].isdigit() and int(token[1:]) < BUCKETS:
            return len(SPECIALS) + int(token[1:])
        return word_id(token)

    def _convert_id_to_token(self, index: int) -> str:
        return SPECIALS[index] if index < len(SPECIALS) else f"#{index - len(SPECIALS)}"

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        pair = [*token_ids_1, SEP] if token_ids_1 else []
        return [CLS, *token_ids_0, SEP, *pair]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        return ()
