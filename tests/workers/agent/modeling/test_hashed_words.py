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
        ("naïve 東京 👍", ["naïve", "東", "京", "👍"]),
        ("这个很好，真的！", ["这", "个", "很", "好", ",", "真", "的", "!"]),
        ("新しいテレビ", ["新", "し", "い", "テ", "レ", "ビ"]),
        ("iPhone15很好", ["iphone15", "很", "好"]),
        ("สวัสดีครับ", ["สวัส", "วัสดี", "สดีค", "ดีครั", "ครับ"]),
        ("ดี มาก", ["ดี", "มาก"]),
        ("ខ្មែរ", ["ខ្មែរ"]),
        ("यह हिन्दी है", ["यह", "हिन्दी", "है"]),
        ("السَّلامُ عليكم، كتـــاب", ["السَّلامُ", "عليكم", "،", "كتاب"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("한국어 영화가", ["한국어", "영화가"]),
        ("rất đẹp", ["rất", "đẹp"]),
        ("👍🏽👩\u200d👩\u200d👧❤\ufe0f🇩🇪🇫🇷1\ufe0f\u20e3", ["👍🏽", "👩\u200d👩\u200d👧", "❤", "🇩🇪", "🇫🇷", "1\u20e3"]),
        ("See https://www.a-b.com/x?y=1.", ["see", "://", "https", "www", "a", "b", "com", "x", "y", "1"]),
        ("(www.foo.org)很好", ["(", "://", "www", "foo", "org", "很", "好"]),
        ("a :// b", ["a", ":", "/", "/", "b"]),
        (" \t\n", []),
    ],
)
def test_words_and_marks_in_order(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café ở", "cafe\u0301 o\u031b\u0309"),
        ("ABC12 カタカナ!", "ＡＢＣ１２　ｶﾀｶﾅ！"),
        ("ﬁne 한국어", "fine \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"),
        ("❤\ufe0f", "❤"),
        ("น้ำ", "น้\u0e4d\u0e32"),
    ],
)
def test_one_word_written_in_two_ways_has_one_id(one: str, other: str) -> None:
    assert one != other
    assert encode(one, 64) == encode(other, 64)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_words_are_the_same_beside_other_scripts(text: str) -> None:
    assert words(f"{text} \u4f60") == [*words(text), "\u4f60"]


def test_a_lone_surrogate_is_a_character_like_any_other() -> None:
    assert len(encode("good \ud83d lamp", 64)) == 5


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
