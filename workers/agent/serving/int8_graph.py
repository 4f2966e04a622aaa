"""A graph with 8-bit weights, kept only where it says what the fp32 graph says.

Dynamic quantisation (Jacob et al., CVPR 2018, arXiv:1712.05877): weights are int8 by channel, activations uint8 with a range
taken from each batch. Convolutions stay fp32: ONNX Runtime's integer ones are slower.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.serving.onnx_graph import OnnxGraph

LEAST_AGREEMENT = 0.99
_LOOK_AT = 1000
_QUANTIZED = ("MatMul", "Gemm", "Gather", "LSTM")


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """Share of held-out texts to which both graphs give the same label; None where there are none."""

    agreement: float | None
    texts: int

    @property
    def kept(self) -> bool:
        return self.agreement is not None and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        if self.agreement is None:
            return "left out: there are no held-out texts to compare it with fp32 on"
        found = f"the same label as fp32 on {self.agreement:.2%} of {self.texts} held-out texts"
        return found if self.kept else f"left out: {found}, less than {LEAST_AGREEMENT:.0%}"


def write(whole: Path, target: Path, held_out: EncodedTexts | None, classes: int, threads: int) -> QuantizationResult:
    """Quantise the graph at `whole`, and leave it at `target` if it agrees."""
    if held_out is None or not len(held_out):
        return QuantizationResult(None, 0)
    part = target.with_name(f".{target.name}.part")
    texts = held_out.first(_LOOK_AT)
    try:
        _quantize(whole, part)
        labels = [OnnxGraph(path, threads).probabilities(texts, classes).argmax(1) for path in (whole, part)]
        verdict = QuantizationResult(float((labels[0] == labels[1]).float().mean()), len(texts))
        if verdict.kept:
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return verdict


def _quantize(whole: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            whole,
            target,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            # 7 bits of 8: processors without 8-bit dot products saturate their 16-bit sums otherwise.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends a step for image models on the root logger; an agent's log is JSON lines."""
    root = logging.getLogger()
    before = root.disabled
    root.disabled = True
    try:
        yield
    finally:
        root.disabled = before
