"""A compressed update: its difference to the round's base model as named parts of few bytes. Pure functions.

Parts of a dense one are `<parameter>` (fp16 or int8) and, for int8, `<parameter>:scales`. Of a sparse one they are `places`,
`values` and, for int8, `values:scales`, over all parameters laid end to end in the order of their names.
"""

from collections.abc import Mapping

import torch

from workers.agent.protocol.training import Compression
from workers.agent.storage.tensors import State
from workers.agent.updates.compression import quantize, sparsify

_SCALES = ":scales"
# Sparse values share a scale by neighbourhood: those that lie close together mostly belong to one channel.
_BLOCK = 256


def encode(delta: State, wanted: Compression, random: torch.Generator) -> State:
    """Parts for `decode`. `random` is drawn from for int8 only."""
    if not wanted.sparse:
        return {name: part for key in sorted(delta) for name, part in _shrunk(key, delta[key], wanted, random).items()}
    flat = torch.cat([delta[name].reshape(-1) for name in sorted(delta)])
    places = sparsify.largest(flat, wanted.ratio)
    values = flat[places]
    if wanted.values == "int8":
        padded = torch.nn.functional.pad(values, (0, -len(values) % _BLOCK)).reshape(-1, _BLOCK)
        whole, scales = quantize.int8(padded, random)
        parts = {"values": whole.reshape(-1)[: len(values)].clone(), "values" + _SCALES: scales}
    else:
        parts = _shrunk("values", values, wanted, random)
    return {"places": sparsify.pack(places, len(flat)), **parts}


def decode(parts: Mapping[str, torch.Tensor], wanted: Compression, shapes: Mapping[str, torch.Size]) -> State:
    """The difference, fp32, of exactly these names and shapes. ValueError for parts that `encode` could not have made."""
    if not wanted.sparse:
        names = {name for key in shapes for name in _names(key, wanted)}
        if parts.keys() != names:
            raise ValueError("the update's names are not the model's")
        return {key: _grown(key, parts, wanted, shape) for key, shape in shapes.items()}
    if parts.keys() != {"places", *_names("values", wanted)}:
        raise ValueError("a sparse update has places and values")
    length = sum(shape.numel() for shape in shapes.values())
    places = sparsify.unpack(parts["places"], length)
    kept = torch.Size([len(places)])
    if wanted.values == "int8":
        values, scales = parts["values"], parts["values" + _SCALES]
        blocks = -(-len(places) // _BLOCK)
        if values.dtype != torch.int8 or scales.dtype != torch.float32 or values.shape != kept or scales.shape != (blocks,):
            raise ValueError("values and scales do not fit the places")
        dense = values.to(torch.float32) * scales.repeat_interleave(_BLOCK)[: len(values)]
    else:
        dense = _grown("values", parts, wanted, kept)
    flat = torch.zeros(length)
    flat[places] = dense
    pieces = flat.split([shapes[name].numel() for name in sorted(shapes)])
    return {name: piece.reshape(shapes[name]) for name, piece in zip(sorted(shapes), pieces, strict=True)}


def _names(key: str, wanted: Compression) -> tuple[str, ...]:
    return (key, key + _SCALES) if wanted.values == "int8" else (key,)


def _shrunk(key: str, values: torch.Tensor, wanted: Compression, random: torch.Generator) -> State:
    if wanted.values == "int8":
        whole, scales = quantize.int8(values, random)
        return {key: whole, key + _SCALES: scales}
    return {key: values.to(_TYPES[wanted.values])}


def _grown(key: str, parts: Mapping[str, torch.Tensor], wanted: Compression, shape: torch.Size) -> torch.Tensor:
    values = parts[key]
    if values.dtype != _TYPES[wanted.values] or values.shape != shape:
        raise ValueError("a part has another type or shape than the model asks for")
    if wanted.values != "int8":
        return values.to(torch.float32)
    if parts[key + _SCALES].dtype != torch.float32:
        raise ValueError("scales are fp32")
    return quantize.from_int8(values, parts[key + _SCALES])


_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
