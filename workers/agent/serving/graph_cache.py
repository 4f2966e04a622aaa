"""The ONNX graphs for predictions.

A graph is written at first use. It is int8 where that gives the same labels.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.serving import int8_graph, onnx_graph
from workers.agent.serving.onnx_graph import OnnxGraph

# One for the global model, one for the worker's own model.
_MOST = 2


class GraphCache:
    """Keeps the last graphs in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._graphs: dict[str, OnnxGraph] = {}

    def get(
        self, name: str, folder: Path, loaded: Callable[[], Network], held_out: Callable[[], EncodedTexts | None]
    ) -> OnnxGraph:
        """Return the graph of the model `name`; write it to `folder` at first use.

        `loaded` and `held_out` are called only when the graph does not exist yet.

        Raises:
            AgentError: `onnx_failed`.
        """
        with self._lock:
            graph = self._graphs.pop(name, None) or _read(name, folder, loaded, held_out)
            self._graphs[name] = graph
            for oldest in list(self._graphs)[:-_MOST]:
                del self._graphs[oldest]
            return graph


def write(name: str, folder: Path, loaded: Callable[[], Network], held_out: Callable[[], EncodedTexts | None]) -> list[Path]:
    """Write the graphs of the model `name` that are missing. Return all, the best one last.

    Raises:
        AgentError: `onnx_failed`.
    """
    fp32_path, int8_path = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
    if not fp32_path.exists():
        onnx_graph.write(loaded(), fp32_path)
    if not int8_path.exists():
        classes = len(loaded().spec.labels)
        int8_graph.write(fp32_path, int8_path, held_out(), classes, torch.get_num_threads())
    return [fp32_path, int8_path] if int8_path.exists() else [fp32_path]


def _read(name: str, folder: Path, loaded: Callable[[], Network], held_out: Callable[[], EncodedTexts | None]) -> OnnxGraph:
    return OnnxGraph(write(name, folder, loaded, held_out)[-1], torch.get_num_threads())


def engine_name(graph: OnnxGraph) -> Literal["onnx-fp32", "onnx-int8"]:
    """Return the name of the graph's engine, as in `InferenceResult`."""
    return "onnx-int8" if graph.path.name.endswith(".int8.onnx") else "onnx-fp32"
