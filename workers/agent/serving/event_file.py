"""The curves of a training as an event file, which TensorBoard reads."""

from collections.abc import Sequence
from pathlib import Path

from workers.agent.protocol.exports import RoundMetrics

# TensorBoard finds a file by this part of its name.
NAME = "events.out.tfevents.rounds"


def write(path: Path, rounds: Sequence[RoundMetrics]) -> None:
    """Write the figures of at least one round.

    A figure is a scalar. Its step is the round's number, and its time is the round's end.
    """
    # Imported here: it takes 0.1 s, and only exports need it.
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    writer = RecordWriter(str(path))
    try:
        writer.write(Event(wall_time=rounds[0].ended_at, file_version="brain.Event:2").SerializeToString())
        for done in rounds:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in done.values.items()]
            event = Event(wall_time=done.ended_at, step=done.number, summary=Summary(value=values))
            writer.write(event.SerializeToString())
    finally:
        writer.close()
