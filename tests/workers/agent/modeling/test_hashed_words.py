import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.modeling.hashed_words import CLS, SEP, SPECIALS, VOCAB_SIZE, encode, word_id, words


def test_the_ids_are_fixed_for_ever() -> None:
    """A changed id would make every trained model useless."""
    assert encode("Great product, can't complain!", 16) == [2, 4707, 1201, 882, 2960, 3439, 16343, 3]
    assert (VOCAB_SIZE, SPECIALS) == (16_388, ("[PAD]", "[UNK]", "[CLS]", "[SEP]"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's GREAT", ["it's", "great"]),
        ("can’t", ["can't"]),
        ("'quoted'", ["'", "quoted", "'"]),
        ("a_b #1!?", ["a", "_", "b", "#", "1", "!", "?"]),
        ("naïve 東京 👍", ["naïve", "東京", "👍"]),
        (" \t\n", []),
    ],
)
def test_words_and_marks_in_order(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text(), st.integers(3, 64))
def test_every_text_becomes_ids_within_the_vocabulary_and_the_length(text: str, longest: int) -> None:
    ids = encode(text, longest)
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert len(ids) == min(longest, len(words(text)) + 2)
    assert all(len(SPECIALS) <= index < VOCAB_SIZE for index in ids[1:-1])
    assert ids == encode(text, longest)


def test_a_word_never_takes_a_special_id() -> None:
    assert min(word_id(f"word{number}") for number in range(50_000)) >= len(SPECIALS)
