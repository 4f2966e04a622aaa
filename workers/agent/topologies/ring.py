"""Ring: reduce-scatter, then all-gather. Each link carries 2 (n - 1) / n of one model.

Patarasuk and Yuan, "Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations", JPDC
69(2), 2009. The model is one flat fp32 vector in n chunks. Every worker adds its own chunk, times
its samples, to the sum from the worker before it. After n - 1 steps each worker holds one chunk's
full sum and divides it by all samples. The means then go round once more.
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
    """Return the mean of all updates, the same bits on every worker."""
    count, place = len(averaging.peers), averaging.place
    previous = averaging.peers[place - 1]
    vector, shapes = await asyncio.to_thread(_weighted_vector, averaging)
    chunks = list(torch.tensor_split(vector, count))
    samples = float(averaging.samples)
    for step in range(count - 1):
        sent, received = (place - step) % count, (place - step - 1) % count
        await _offer(averaging, f"reduce-{step}", samples, chunks[sent])
        path = await averaging.fetch(previous, f"reduce-{step}")
        other_samples, chunk = await asyncio.to_thread(_read, path, chunks[received].numel())
        chunks[received] += chunk
        samples = other_samples + averaging.samples
    # The last sum has passed every worker, so its samples are all samples.
    chunks[(place + 1) % count] /= samples
    for step in range(count - 1):
        sent, received = (place + 1 - step) % count, (place - step) % count
        await _offer(averaging, f"gather-{step}", samples, chunks[sent])
        path = await averaging.fetch(previous, f"gather-{step}")
        _, chunk = await asyncio.to_thread(_read, path, chunks[received].numel())
        chunks[received].copy_(chunk)
    return Mean(_state_of(vector, shapes), int(samples))


def _weighted_vector(averaging: PeerAveraging) -> tuple[torch.Tensor, dict[str, torch.Size]]:
    """Return all tensors times the samples as one vector, in name order, and their shapes."""
    # No node sees a single update in a ring. So each worker checks its own before it adds it.
    state = read_sound_state(averaging.update, tensors.read(averaging.base))
    vector = torch.cat([state[name].flatten() for name in sorted(state)]).mul_(averaging.samples)
    return vector, {name: state[name].shape for name in sorted(state)}


def _state_of(vector: torch.Tensor, shapes: dict[str, torch.Size]) -> tensors.State:
    parts = vector.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


async def _offer(averaging: PeerAveraging, name: str, samples: float, chunk: torch.Tensor) -> None:
    path = averaging.outbox.outgoing / name
    await asyncio.to_thread(path.write_bytes, _SAMPLES.pack(samples) + chunk.numpy().tobytes())
    averaging.offer(name, path)


def _read(path: Path, numbers: int) -> tuple[float, torch.Tensor]:
    """Return (samples, chunk) of a part's file, and delete the file.

    Raises: AgentError `bad_part` if the part has another length.
    """
    content = bytearray(path.read_bytes())
    path.unlink()
    if len(content) != _SAMPLES.size + 4 * numbers:
        raise AgentError("bad_part", "a part of the ring has the wrong length")
    (samples,) = _SAMPLES.unpack_from(content)
    return samples, torch.frombuffer(content, dtype=torch.float32, count=numbers, offset=_SAMPLES.size)
