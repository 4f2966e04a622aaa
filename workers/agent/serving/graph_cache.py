"""The graphs that predictions run on: made when first asked for, int8 where that gives the same labels."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.serving import int8_graph, onnx_graph
from workers.agent.serving.onnx_graph import OnnxGraph

# The global model's and the worker's own.
_MOST = 2


class GraphCache:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, OnnxGraph] = {}

    def of(
        self, name: str, folder: Path, loaded: Callable[[], Network], held_out: Callable[[], EncodedTexts | None]
    ) -> OnnxGraph:
        """The graph of the model `name`; `loaded` and `held_out` are asked only where it is not there yet. `onnx_failed`."""
        with self._lock:
            graph = self._known.pop(name, None) or self._read(name, folder, loaded, held_out)
            self._known[name] = graph
            for old in list(self._known)[:-_MOST]:
                del self._known[old]
            return graph

    @staticmethod
    def _read(name: str, folder: Path, loaded: Callable[[], Network], held_out: Callable[[], EncodedTexts | None]) -> OnnxGraph:
        whole, small, threads = folder / f"{name}.onnx", folder / f"{name}.int8.onnx", torch.get_num_threads()
        if not whole.exists():
            onnx_graph.write(loaded(), whole)
        if not small.exists():
            classes = len(loaded().spec.labels)
            int8_graph.write(whole, small, held_out(), classes, threads)
        return OnnxGraph(small if small.exists() else whole, threads)


def engine_name(graph: OnnxGraph) -> Literal["onnx-fp32", "onnx-int8"]:
    return "onnx-int8" if graph.path.name.endswith(".int8.onnx") else "onnx-fp32"
