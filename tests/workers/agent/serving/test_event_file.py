"""The event file of an export: its records, and what TensorBoard itself reads."""

import json
import struct
import subprocess
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from tests import mlflow_tools
from tests.workers.agent.exporting import exported
from workers.agent.protocol.exports import RoundMetrics
from workers.agent.serving import event_file

ROUNDS = [
    RoundMetrics(number=1, ended_at=1_700_000_000.5, values={"global_loss": 0.75, "local_loss/node_w1_a": 1.0}),
    RoundMetrics(number=2, ended_at=1_700_000_010.5, values={"global_loss": 0.5, "validation_accuracy": 0.875}),
]
# Prints each scalar's steps and values, and the times of the first tag.
READER = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1])
found.Reload()
tags = found.Tags()["scalars"]
scalars = {tag: [[event.step, event.value] for event in found.Scalars(tag)] for tag in tags}
print(json.dumps({"scalars": scalars, "times": [event.wall_time for event in found.Scalars("global_loss")]}))
"""


def crc32c(content: bytes) -> int:
    """Compute the checksum of RFC 3720, without a table."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(content: bytes) -> list[bytes]:
    """Return the records of a file, after a check of both checksums of each."""
    found, at = [], 0
    while at < len(content):
        head = content[at : at + 8]
        (length,) = struct.unpack("<Q", head)
        data = content[at + 12 : at + 12 + length]
        checksums = struct.unpack("<I", content[at + 8 : at + 12]), struct.unpack("<I", content[at + 12 + length :][:4])
        assert checksums == ((masked(head),), (masked(data),))
        found.append(data)
        at += 16 + length
    return found


def test_an_export_has_a_record_for_each_round(tmp_path: Path) -> None:
    assert crc32c(b"123456789") == 0xE3069283, "the check value of CRC-32C"
    content = (exported(tmp_path, rounds=ROUNDS) / event_file.NAME).read_bytes()
    first, *events = [Event.FromString(record) for record in records(content)]
    assert first.file_version == "brain.Event:2"
    assert [(event.step, event.wall_time) for event in events] == [(one.number, one.ended_at) for one in ROUNDS]
    assert [{value.tag: value.simple_value for value in event.summary.value} for event in events] == [
        one.values for one in ROUNDS
    ]


def test_an_export_without_rounds_has_no_event_file(tmp_path: Path) -> None:
    assert not (exported(tmp_path) / event_file.NAME).exists()


@pytest.mark.timeout(120)
def test_tensorboard_finds_the_curves_in_an_exports_folder(tmp_path: Path) -> None:
    python = mlflow_tools.program("python")
    folder = exported(tmp_path, rounds=ROUNDS)
    ran = subprocess.run([python, "-c", READER, folder], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "scalars": {
            "global_loss": [[1, 0.75], [2, 0.5]],
            "local_loss/node_w1_a": [[1, 1.0]],
            "validation_accuracy": [[2, 0.875]],
        },
        "times": [one.ended_at for one in ROUNDS],
    }
