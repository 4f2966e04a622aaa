"""Ring: reduce-scatter, then all-gather; each link carries 2 (n - 1) / n of one model, however many workers there are.

Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations", JPDC 69(2), 2009. The model is one
flat fp32 vector in n chunks. Every worker adds its own chunk, times its samples, to the sum that comes from its predecessor;
after n - 1 steps each holds one chunk's full sum, divides it by all samples, and the means go round once more.
"""

import asyncio
import struct
from pathlib import Path

import torch

from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.topologies.peer_averaging import Mean, PeerAveraging
from workers.agent.updates.validation import read_sound_state

_SAMPLES = struct.Struct("<d")


async def average_with_peers(averaging: PeerAveraging) -> Mean:
    """The mean of all updates, the same bits on every worker."""
    count, place = len(averaging.peers), averaging.place
    before = averaging.peers[place - 1]
    flat, shapes = await asyncio.to_thread(_flat, averaging)
    chunks = list(torch.tensor_split(flat, count))
    samples = float(averaging.samples)
    for step in range(count - 1):
        sent, taken = (place - step) % count, (place - step - 1) % count
        await _offer(averaging, f"reduce-{step}", samples, chunks[sent])
        path = await averaging.take(before, f"reduce-{step}")
        others, chunk = await asyncio.to_thread(_read, path, chunks[taken].numel())
        chunks[taken] += chunk
        samples = others + averaging.samples
    # The last sum that came in went past everybody: its samples are all samples.
    chunks[(place + 1) % count] /= samples
    for step in range(count - 1):
        sent, taken = (place + 1 - step) % count, (place - step) % count
        await _offer(averaging, f"gather-{step}", samples, chunks[sent])
        path = await averaging.take(before, f"gather-{step}")
        _, chunk = await asyncio.to_thread(_read, path, chunks[taken].numel())
        chunks[taken].copy_(chunk)
    return Mean(_unflat(flat, shapes), int(samples))


def _flat(averaging: PeerAveraging) -> tuple[torch.Tensor, dict[str, torch.Size]]:
    """All tensors times the samples, one after another in the order of names; the chunks are views into it."""
    # Nobody sees a single update in a ring: each worker keeps its own from spoiling the sum.
    state = read_sound_state(averaging.update, tensors.read(averaging.base))
    flat = torch.cat([state[name].flatten() for name in sorted(state)]).mul_(averaging.samples)
    return flat, {name: state[name].shape for name in sorted(state)}


def _unflat(flat: torch.Tensor, shapes: dict[str, torch.Size]) -> tensors.State:
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


async def _offer(averaging: PeerAveraging, name: str, samples: float, chunk: torch.Tensor) -> None:
    path = averaging.parts.outgoing / name
    await asyncio.to_thread(path.write_bytes, _SAMPLES.pack(samples) + chunk.numpy().tobytes())
    averaging.offer(name, path)


def _read(path: Path, numbers: int) -> tuple[float, torch.Tensor]:
    """(samples, chunk); AgentError `bad_part` when the part has another length."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if len(content) != _SAMPLES.size + 4 * numbers:
        raise AgentError("bad_part", "a part of the ring has the wrong length")
    (samples,) = _SAMPLES.unpack_from(content)
    return samples, torch.frombuffer(content, dtype=torch.float32, count=numbers, offset=_SAMPLES.size)
