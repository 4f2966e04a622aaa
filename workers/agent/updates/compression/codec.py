"""Compressed updates: the difference from the round's base as a few small tensors. Pure functions.

A dense update has the part `<parameter>` (fp16 or int8) and, for int8, `<parameter>:scales`.
A sparse update has the parts `places`, `values` and, for int8, `values:scales`. They cover all
parameters as one flat vector, in the order of the parameters' names.
"""

from collections.abc import Mapping

import torch

from workers.agent.protocol.training import Compression
from workers.agent.storage.tensors import State
from workers.agent.updates.compression import quantize, sparsify

_SCALES = ":scales"
# In a sparse update, 256 neighbouring values share a scale. They mostly belong to one channel.
_BLOCK = 256


def encode(delta: State, compression: Compression, random: torch.Generator) -> State:
    """Return the parts for `decode`. Only int8 uses `random`."""
    if not compression.sparse:
        return {name: part for key in sorted(delta) for name, part in _quantize(key, delta[key], compression, random).items()}
    flat = torch.cat([delta[name].reshape(-1) for name in sorted(delta)])
    places = sparsify.largest(flat, compression.ratio)
    values = flat[places]
    if compression.values == "int8":
        padded = torch.nn.functional.pad(values, (0, -len(values) % _BLOCK)).reshape(-1, _BLOCK)
        whole, scales = quantize.int8(padded, random)
        parts = {"values": whole.reshape(-1)[: len(values)].clone(), "values" + _SCALES: scales}
    else:
        parts = _quantize("values", values, compression, random)
    return {"places": sparsify.pack(places, len(flat)), **parts}


def decode(parts: Mapping[str, torch.Tensor], compression: Compression, shapes: Mapping[str, torch.Size]) -> State:
    """Return the difference as fp32, with exactly these names and shapes.

    Raises:
        ValueError: for parts that `encode` cannot have made.
    """
    if not compression.sparse:
        names = {name for key in shapes for name in _names(key, compression)}
        if parts.keys() != names:
            raise ValueError("the update's names are not the model's")
        return {key: _dequantize(key, parts, compression, shape) for key, shape in shapes.items()}
    if parts.keys() != {"places", *_names("values", compression)}:
        raise ValueError("a sparse update has places and values")
    length = sum(shape.numel() for shape in shapes.values())
    places = sparsify.unpack(parts["places"], length)
    kept = torch.Size([len(places)])
    if compression.values == "int8":
        values, scales = parts["values"], parts["values" + _SCALES]
        blocks = -(-len(places) // _BLOCK)
        if values.dtype != torch.int8 or scales.dtype != torch.float32 or values.shape != kept or scales.shape != (blocks,):
            raise ValueError("values and scales do not fit the places")
        dense = values.to(torch.float32) * scales.repeat_interleave(_BLOCK)[: len(values)]
    else:
        dense = _dequantize("values", parts, compression, kept)
    flat = torch.zeros(length)
    flat[places] = dense
    pieces = flat.split([shapes[name].numel() for name in sorted(shapes)])
    return {name: piece.reshape(shapes[name]) for name, piece in zip(sorted(shapes), pieces, strict=True)}


def _names(key: str, compression: Compression) -> tuple[str, ...]:
    return (key, key + _SCALES) if compression.values == "int8" else (key,)


def _quantize(key: str, values: torch.Tensor, compression: Compression, random: torch.Generator) -> State:
    if compression.values == "int8":
        whole, scales = quantize.int8(values, random)
        return {key: whole, key + _SCALES: scales}
    return {key: values.to(_TYPES[compression.values])}


def _dequantize(key: str, parts: Mapping[str, torch.Tensor], compression: Compression, shape: torch.Size) -> torch.Tensor:
    values = parts[key]
    if values.dtype != _TYPES[compression.values] or values.shape != shape:
        raise ValueError("a part has another type or shape than the model")
    if compression.values != "int8":
        return values.to(torch.float32)
    if parts[key + _SCALES].dtype != torch.float32:
        raise ValueError("scales are fp32")
    return quantize.from_int8(values, parts[key + _SCALES])


_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
