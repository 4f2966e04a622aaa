from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.workers.agent.exporting import exported
from workers.agent.modeling.hashed_words import SPECIALS, VOCAB_SIZE, encode
from workers.agent.modeling.tokenization_hashed_words import HashedWordTokenizer

TOKENIZER = HashedWordTokenizer()
TEXTS = [
    "Great product, can't complain!",
    "It’s okay… 東京 👍 #7 a_b",
    "the words [SEP] and [PAD] and #12 stand for nothing",
    "",
    "  spaces\n and\ttabs  ",
    "x" * 500,
    "İstanbul ǅ ß",
    "这个很好。 สวัสดีครับ हिन्दी السَّلامُ cafe\u0301 ＡＢＣ",
    "👩\u200d👩\u200d👧 👍🏽 https://www.a-b.com/x?y=1 ok",
]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_that_the_agent_trains_on(text: str) -> None:
    assert TOKENIZER(text)["input_ids"] == encode(text, 10_000)
    assert TOKENIZER(text, truncation=True, max_length=5)["input_ids"] == encode(text, 5)


@given(st.text(max_size=60))
def test_ids_are_the_agents_for_every_text(text: str) -> None:
    assert TOKENIZER(text)["input_ids"] == encode(text, 10_000)


def test_a_batch_is_padded_and_masked() -> None:
    batch = TOKENIZER(["great", "a great lamp"], padding=True)
    assert batch["input_ids"][0] == [*encode("great", 9), 0, 0]
    assert batch["attention_mask"] == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_every_id_has_a_name_of_its_own_that_leads_back() -> None:
    vocabulary = TOKENIZER.get_vocab()
    assert len(vocabulary) == len(TOKENIZER) == VOCAB_SIZE
    assert TOKENIZER.convert_ids_to_tokens([0, 1, 2, 3, 4, 16_387]) == [*SPECIALS, "#0", "#16383"]
    assert TOKENIZER.convert_tokens_to_ids(["#0", "#16383", *SPECIALS]) == [4, 16_387, 0, 1, 2, 3]


def test_an_exports_own_copy_gives_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    tokenizer = AutoTokenizer.from_pretrained(exported(tmp_path), trust_remote_code=True)
    assert type(tokenizer).__name__ == "HashedWordTokenizer"
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == encode(text, 10_000)
    assert tokenizer("word " * 2000, truncation=True)["input_ids"] == encode("word " * 2000, 1024), "as in training"
