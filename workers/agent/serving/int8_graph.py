"""An ONNX graph with 8-bit weights, kept only where it predicts the same labels as the fp32 graph.

Dynamic quantization (Jacob et al., CVPR 2018, arXiv:1712.05877): weights are int8 with a scale for
each channel. Activations are uint8, with a range from each batch. Convolutions stay fp32, because
ONNX Runtime's integer convolutions are slower.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.serving.onnx_graph import OnnxGraph

LEAST_AGREEMENT = 0.99
_MOST_TEXTS = 1000
_QUANTIZED = ("MatMul", "Gemm", "Gather", "LSTM")


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """The fraction of held-out texts with the same label in both graphs; None without texts."""

    agreement: float | None
    texts: int

    @property
    def kept(self) -> bool:
        """Return whether the graphs agree well enough to keep the int8 graph."""
        return self.agreement is not None and self.agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        if self.agreement is None:
            return "left out: there are no held-out texts to compare it with fp32 on"
        agreement = f"the same label as fp32 on {self.agreement:.2%} of {self.texts} held-out texts"
        return agreement if self.kept else f"left out: {agreement}, less than {LEAST_AGREEMENT:.0%}"


def write(source: Path, target: Path, held_out: EncodedTexts | None, classes: int, threads: int) -> QuantizationResult:
    """Quantize the graph at `source`; write it to `target` if both graphs agree."""
    if held_out is None or not len(held_out):
        return QuantizationResult(None, 0)
    part = target.with_name(f".{target.name}.part")
    texts = held_out.first(_MOST_TEXTS)
    try:
        _quantize(source, part)
        labels = [OnnxGraph(path, threads).probabilities(texts, classes).argmax(1) for path in (source, part)]
        result = QuantizationResult(float((labels[0] == labels[1]).float().mean()), len(texts))
        if result.kept:
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return result


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            # 7 of 8 bits: else the 16-bit sums of processors without 8-bit dot products saturate.
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the root logger.

    The quantizer recommends a step for image models there. An agent's log has only JSON lines.
    """
    root = logging.getLogger()
    before = root.disabled
    root.disabled = True
    try:
        yield
    finally:
        root.disabled = before
