"""Temperature scaling.

It finds a known temperature. It improves confidences on other samples. The labels stay the same.
"""

import math

import pytest
import torch

from workers.agent.modeling import calibration
from workers.agent.protocol.inference import CalibrationSums

CLASSES = 3


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits, labels drawn from their softmax)."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=random)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=random).squeeze(1)


def surprise(table: torch.Tensor, labels: torch.Tensor) -> float:
    return -float(table.gather(1, labels[:, None]).log().mean())


def expected_calibration_error(table: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., equation 3).

    It is the mean gap between confidence and accuracy over bins of similar confidence.
    """
    sure, said = table.max(1)
    right, place = (said == labels).double(), (sure * bins).long().clamp(max=bins - 1)
    gaps = [abs(float(right[place == one].sum() - sure[place == one].sum())) for one in range(bins)]
    return sum(gaps) / len(labels)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7, 5.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, labels = drawn(20_000, 1)
    fitted = calibration.fit([calibration.calibration_sums((temperature * logits).softmax(1), labels)], CLASSES)
    assert fitted == pytest.approx(temperature, rel=0.03)


def test_an_overconfident_model_is_believed_less_and_says_the_same() -> None:
    logits, labels = drawn(1000, 2)
    temperature = calibration.fit([calibration.calibration_sums((4 * logits).softmax(1), labels)], CLASSES)
    logits, labels = drawn(4000, 3)
    raw = (4 * logits).softmax(1)
    mended = calibration.apply_temperature(raw, temperature)
    assert torch.equal(mended.argmax(1), raw.argmax(1))
    assert surprise(mended, labels) < surprise(raw, labels) - 0.5
    assert expected_calibration_error(raw, labels) > 0.15
    assert expected_calibration_error(mended, labels) < 0.04


def test_a_calibrated_model_is_left_as_it_is() -> None:
    logits, labels = drawn(1000, 4)
    raw = logits.softmax(1)
    mended = calibration.apply_temperature(raw, calibration.fit([calibration.calibration_sums(raw, labels)], CLASSES))
    assert surprise(mended, labels) < surprise(raw, labels) + 1e-4
    assert expected_calibration_error(mended, labels) < expected_calibration_error(raw, labels) + 0.01


def test_the_sums_of_four_workers_give_what_all_their_samples_would() -> None:
    logits, labels = drawn(400, 5)
    table = (3 * logits).softmax(1)
    parts = [calibration.calibration_sums(table[part::4], labels[part::4]) for part in range(4)]
    assert calibration.fit(parts, CLASSES) == pytest.approx(
        calibration.fit([calibration.calibration_sums(table, labels)], CLASSES)
    )


def test_few_samples_that_are_all_right_ask_for_no_certainty_by_hand() -> None:
    # Ten of ten right count as 11/12, and 9 to 1 becomes 11 to 1 at T = ln 9 / ln 11.
    table = torch.tensor([[0.9, 0.1]] * 10)
    fitted = calibration.fit([calibration.calibration_sums(table, torch.zeros(10, dtype=torch.long))], 2)
    assert fitted == pytest.approx(math.log(9) / math.log(11), abs=2e-3)
    assert float(calibration.apply_temperature(table, fitted)[0, 0]) == pytest.approx(11 / 12, abs=1e-3)


def test_without_held_out_samples_there_is_no_temperature_and_nothing_changes() -> None:
    table = torch.tensor([[0.7, 0.3]])
    assert calibration.fit([], 2) is None
    assert calibration.fit([calibration.calibration_sums(torch.empty(0, 2), torch.empty(0, dtype=torch.long))], 2) is None
    assert calibration.apply_temperature(table, None) is table


def test_what_a_broken_model_or_a_liar_tells_is_not_fitted_to() -> None:
    good = calibration.calibration_sums(*_table())
    broken = calibration.calibration_sums(torch.full((5, 2), math.nan), torch.zeros(5, dtype=torch.long))
    lies = [
        CalibrationSums(samples=5, right=[], even=[]),
        good.model_copy(update={"right": [-1.0, *good.right[1:]]}),
        good.model_copy(update={"even": [math.inf, *good.even[1:]]}),
        good.model_copy(update={"samples": 0}),
    ]
    assert calibration.fit([broken, *lies], 2) is None
    assert calibration.fit([broken, good, *lies], 2) == calibration.fit([good], 2)


def _table() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]), torch.tensor([0, 1, 1])
