"""Notices about texts that the model cannot read: never seen in training, or cut."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import CanineTokenizer

from tests.workers.agent.agents import MODEL, Federation, federation
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.serving.test_predict import WAYS, predict
from tests.workers.agent.texts import samples, spec
from workers.agent.modeling.hashed_words import BUCKETS, word_id, words
from workers.agent.modeling.network import build
from workers.agent.protocol.inference import TextCounts
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import text_counts
from workers.agent.serving.text_counts import SeenWords, count, middle, notices, total

BASE = spec("base", max_length=16)
OWN = [row["text"] for row in samples(12, 0)]
CHINESE = ["这部电影非常好看", "我不喜欢那家餐厅的服务", "价格太贵质量一般", "今天天气真不错"]
CHARACTERS = sum(map(len, CHINESE))


def test_zeros_are_scaled_up_by_the_part_of_the_buckets_in_use() -> None:
    """Half of the buckets are in use. The words of zeros come 3 times and once."""
    words = SeenWords(np.array([True, False, True, False]))
    estimate, least = words.unseen(np.array([1, 1, 1, 3, 0, 0, 2, 0, 0, 0, 2, 0]))
    assert estimate == pytest.approx(4 / 0.5)
    # The standard error is sqrt((9 + 1) * 0.5) / 0.5 = 4.5. The four zeros are certain.
    assert least == pytest.approx(max(4.0, 8 - 2 * math.sqrt(10 * 0.5) / 0.5))


@pytest.mark.parametrize("used", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_estimate_finds_the_share_of_unseen_words(used: float, share: float) -> None:
    random = np.random.default_rng(3)
    estimates, above = [], 0
    for _ in range(50):
        seen = random.random(BUCKETS) < used
        unseen = random.integers(BUCKETS, size=round(1000 * share))
        known = random.choice(np.flatnonzero(seen), 1000 - len(unseen))
        estimate, least = SeenWords(seen).unseen(np.concatenate([unseen, known]))
        estimates.append(estimate)
        above += least > len(unseen)
    # An estimate is at most the number of tokens. So it is a little low where all are unseen.
    assert np.mean(estimates) == pytest.approx(1000 * share, abs=60)
    assert above <= 5


@pytest.fixture(scope="module")
def english() -> Iterator[Federation]:
    """Two workers whose model from scratch was trained on English texts."""
    with federation(2) as agents:
        agents.init(model=BASE)
        agents.round(1, model=BASE)
        yield agents


def found(agents: Federation, texts: list[str], **fields: Any) -> list[str]:
    answer = predict(agents, **{"model": BASE, "inputs": texts, "count_unseen": True, **fields})
    given: list[str] = answer["notices"]
    return given


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("way", WAYS)
def test_a_model_of_english_says_that_it_never_saw_chinese(english: Federation, way: str, engine: str) -> None:
    (notice,) = found(english, CHINESE, aggregation=way, engine=engine)
    start, end = "Most tokens were never seen in training: about ", f" of {CHARACTERS}."
    assert notice.startswith(start)
    assert notice.endswith(end)
    assert int(notice.removeprefix(start).removesuffix(end)) == pytest.approx(CHARACTERS, abs=1)
    assert found(english, OWN, aggregation=way, engine=engine) == []


def test_what_another_worker_has_seen_was_seen(english: Federation) -> None:
    """The numbers in the texts of each worker are its own. Each has a model of its own too."""
    mine = [" ".join(word for word in row["text"].split() if word.isdigit()) for row in samples(24, 1000)]
    assert found(english, mine, aggregation="mean", workers=[english.workers[0].peer]) == []
    others = [f"{number}" for number in range(770_000, 770_024)]
    assert len(found(english, others, aggregation="mean", workers=[english.workers[0].peer])) == 1


def test_words_of_no_language_are_counted_beside_known_ones(english: Federation) -> None:
    """Seven words of each text were never seen, and three were."""
    texts = [f"the lamp is {' '.join(f'zq{text}x{word}' for word in range(7))}" for text in range(10)]
    (notice,) = found(english, texts)
    assert int(notice.split()[8]) == pytest.approx(70, abs=2)
    assert notice.endswith(" of 100.")
    texts = [f"the lamp is great and perfect {' '.join(f'zq{text}x{word}' for word in range(4))}" for text in range(10)]
    assert found(english, texts) == []


def test_nothing_is_said_where_zeros_do_not_show_what_was_seen(english: Federation) -> None:
    assert found(english, CHINESE, count_unseen=False) == []


@pytest.mark.parametrize("way", WAYS)
def test_long_texts_have_a_notice_that_they_were_cut(english: Federation, way: str) -> None:
    """Two special tokens count: a text of 14 words has max_length tokens."""
    whole, long = " ".join(["lamp"] * 14), " ".join(["lamp"] * 15)
    expected = "Most texts were cut: 3 of 5 have more tokens than max_length (16)."
    assert found(english, [long, whole, long, "lamp", long], aggregation=way) == [expected]
    assert found(english, [long, whole, long, "lamp"], aggregation=way) == [], "two of four are not most"


@pytest.fixture(scope="module")
def pretrained() -> Iterator[Federation]:
    with federation(2) as agents:
        yield agents


@pytest.mark.parametrize("way", WAYS)
def test_a_pretrained_model_counts_cut_texts_and_unknown_tokens(pretrained: Federation, way: str) -> None:
    long, whole = " ".join(["lamp"] * 31), " ".join(["lamp"] * 30)
    same = {"model": MODEL, "aggregation": way, "count_unseen": True}
    assert found(pretrained, [long, whole, long], **same) == [
        "Most texts were cut: 2 of 3 have more tokens than max_length (32)."
    ]
    assert found(pretrained, ["the lamp is unheard", "qua qua qua qua"], **same) == [
        "Most tokens are unknown to the model's tokenizer: 5 of 8."
    ]
    assert found(pretrained, ["the lamp is great", "the kettle qua qua qua"], **same) == []


def test_a_file_has_these_notices_after_those_about_its_labels(english: Federation) -> None:
    english.aggregator.put("/data/test.json", [{"text": text} for text in CHINESE])
    answer = predict(english, model=BASE, inputs=None, input_data="/data/test.json", count_unseen=True)
    assert ["no labels" in notice for notice in answer["notices"]] == [True, False]
    assert not any(word in notice for notice in answer["notices"] for text in CHINESE for word in text)


def test_a_model_that_is_not_trained_yet_has_seen_words_unknown(tmp_path: Path) -> None:
    network = build(BASE, SandboxRoot(tmp_path))
    assert count(network, network.encoded(["a lamp"]), None) == TextCounts(cut=0, tokens=2)
    assert words("a lamp") == ["a", "lamp"]
    assert word_id("lamp") >= network.first_word_id


def test_a_tokenizer_in_python_does_not_tell_what_it_cut(tmp_path: Path) -> None:
    """CANINE's reads characters, and knows all of them."""
    save_tiny_bert(tmp_path / "models/tiny")
    CanineTokenizer().save_pretrained(tmp_path / "models/tiny")
    (tmp_path / "models/tiny/tokenizer.json").unlink()
    network = build(MODEL, SandboxRoot(tmp_path))
    assert type(network.tokenizer) is CanineTokenizer
    assert count(network, network.encoded(["a lamp", "lamps"]), None) == TextCounts(cut=0, tokens=11)
    assert count(network, network.encoded(["a lamp", "lamp " * 9]), None).cut is None


def test_sums_and_medians_of_counts() -> None:
    one = TextCounts(cut=1, tokens=10, unseen=4.5, least_unseen=4)
    other = TextCounts(cut=2, tokens=20, unseen=6, least_unseen=5)
    assert total([one, other]) == TextCounts(cut=3, tokens=30, unseen=10.5, least_unseen=9)
    assert total([one, TextCounts(cut=None, tokens=1)]) == TextCounts(cut=None, tokens=11)
    assert total([one, None]) is total([]) is middle([None]) is None
    liar = TextCounts(cut=9, tokens=10, unseen=10, least_unseen=10)
    assert middle([one, liar, None, one]) == one


def test_a_notice_needs_more_than_half() -> None:
    assert notices(TextCounts(cut=1, tokens=4, unknown=2, unseen=4, least_unseen=2), 2, 128) == []
    assert len(notices(TextCounts(cut=2, tokens=4, unknown=3, unseen=4, least_unseen=3), 2, 128)) == 3
    assert notices(TextCounts(cut=0, tokens=0, unseen=0, least_unseen=0, unknown=0), 1, 128) == []
    assert notices(None, 1, 128) == []
    assert text_counts.are_possible(TextCounts(cut=1, tokens=4), 1)
