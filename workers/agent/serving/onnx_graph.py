"""A classifier as an ONNX graph, and ONNX Runtime to run it.

Inputs: `input_ids` and `attention_mask`, int64, shape (texts, tokens); both sizes are dynamic.
Output: `logits`, fp32, shape (texts, classes).
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from workers.agent.datasets.batches import EncodedTexts, by_length
from workers.agent.modeling.models.lora import merged
from workers.agent.modeling.network import Network
from workers.agent.runtime.errors import AgentError

# torch's exporter has global state. So there is one export at a time in a process.
_EXPORTING = threading.Lock()
_OPSET = 17
_TOLERANCE = 1e-4
_BATCH = 64


class _LogitsOnly(nn.Module):
    """A model whose output is the logits tensor itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return result


def write(network: Network, target: Path) -> None:
    """Export the network, and check the file's output against it.

    Raises:
        AgentError: `onnx_failed` when the outputs differ.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    example = EncodedTexts.of([[5, 6, 7], [8, 9]], None, network.pad_id, pad_left=network.pad_left).batch(np.arange(2))
    dynamic = {0: "texts", 1: "tokens"}
    module = _LogitsOnly(merged(network.model)).eval()
    try:
        with _EXPORTING, torch.no_grad():
            torch.onnx.export(
                module,
                example,
                str(part),
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_axes={"input_ids": dynamic, "attention_mask": dynamic, "logits": {0: "texts"}},
                opset_version=_OPSET,
                dynamo=False,
            )
            texts = [[5, 9, 6, 8, 7, 5, 6], [5, 8, 6], [5, 9, 9, 8, 6]]
            ids, mask = EncodedTexts.of(texts, None, network.pad_id, pad_left=network.pad_left).batch(np.arange(len(texts)))
            expected = module(ids, mask).numpy()
        computed = OnnxGraph(part, threads=1).run(ids.numpy(), mask.numpy())
        if float(np.abs(computed - expected).max()) > _TOLERANCE:
            raise AgentError("onnx_failed", "the ONNX graph does not compute what the model does", 500)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class OnnxGraph:
    """A graph that is loaded into ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, ids: Any, mask: Any) -> Any:
        """Return the logits of a padded batch as a numpy array."""
        return self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]

    def probabilities(self, data: EncodedTexts, classes: int) -> torch.Tensor:
        """Return the class probabilities: shape (texts, classes), in the order of the texts."""
        result = torch.empty(len(data), classes)
        for batch in by_length(data.lengths, _BATCH):
            ids, mask = data.batch(batch)
            result[torch.from_numpy(batch)] = torch.from_numpy(self.run(ids.numpy(), mask.numpy())).softmax(1)
        return result
