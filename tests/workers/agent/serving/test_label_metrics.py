import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.protocol.inference import MAX_CONFUSED_CLASSES
from workers.agent.serving.label_metrics import confusion_matrix, label_metrics


def test_figures_by_hand() -> None:
    """By class:

    a: 2 of 3 found, 2 of 3 answers right.
    b: 1 of 2 found, 1 of 2 right.
    c: 1 of 1 found, 1 of 1 right.
    """
    metrics = label_metrics(list("aaabbc"), list("aabbac"))
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["precision"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["recall"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["f1_score"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_f1_is_the_mean_over_classes_and_not_of_the_means() -> None:
    """Class a: precision 3/4, recall 1; b: precision 0 (never predicted), recall 0."""
    metrics = label_metrics(list("aaab"), list("aaaa"))
    assert metrics == pytest.approx({"accuracy": 0.75, "precision": 0.375, "recall": 0.5, "f1_score": (2 * 0.75 / 1.75) / 2})


def test_an_answer_that_is_no_class_of_the_truth_is_wrong_and_nothing_more() -> None:
    assert label_metrics(list("ab"), list("az")) == pytest.approx(
        {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1_score": 0.5}
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=50), st.randoms())
def test_figures_are_shares_that_no_order_changes(pairs: list[tuple[str, str]], random: object) -> None:
    metrics = label_metrics([truth for truth, _ in pairs], [predicted for _, predicted in pairs])
    assert all(0 <= value <= 1 for value in metrics.values())
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert label_metrics([truth for truth, _ in pairs], [predicted for _, predicted in pairs]) == pytest.approx(metrics)
    truth = [label for label, _ in pairs]
    assert set(label_metrics(truth, truth).values()) == {1.0}


def test_the_confusion_matrix_has_true_rows_and_predicted_columns() -> None:
    matrix = confusion_matrix(list("aaabbc"), list("aabbac"), list("cab"))
    assert matrix is not None
    assert matrix.labels == ["c", "a", "b"]
    assert matrix.counts == [[1, 0, 0], [0, 2, 1], [0, 1, 1]]


def test_the_confusion_matrix_leaves_out_classes_that_do_not_occur() -> None:
    matrix = confusion_matrix(list("aa"), list("ab"), list("abcd"))
    assert matrix is not None
    assert (matrix.labels, matrix.counts) == (["a", "b"], [[1, 1], [0, 0]])


def test_the_confusion_matrix_of_too_many_classes_is_none() -> None:
    names = [str(number) for number in range(MAX_CONFUSED_CLASSES + 1)]
    assert confusion_matrix(names, names, names) is None
    matrix = confusion_matrix(names[1:], names[1:], names)
    assert matrix is not None
    assert len(matrix.labels) == MAX_CONFUSED_CLASSES


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=50))
def test_the_confusion_matrix_agrees_with_the_accuracy(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [truth for truth, _ in pairs], [predicted for _, predicted in pairs]
    matrix = confusion_matrix(truth, predicted, "abc")
    assert matrix is not None
    assert sum(map(sum, matrix.counts)) == len(pairs)
    right = sum(row[number] for number, row in enumerate(matrix.counts))
    assert right / len(pairs) == pytest.approx(label_metrics(truth, predicted)["accuracy"])
