"""E2B's process service. It starts and controls the processes of the table."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import Headers, RequestContext
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import Process as ProcessProtocol
from protobuf import Oneof

from .process_table import Listener, OutputChunk, Process, ProcessExit, ProcessTable
from .sandbox_paths import check_user
from .wire import MEMORY_LIMIT_REACHED

# Sending a keep-alive also shows whether the client is still connected.
_KEEP_ALIVE_S = 15.0
Context = RequestContext[Any, Any]
_Started = Oneof[Literal["start"], pb.ProcessEvent.StartEvent]
_Data = Oneof[Literal["data"], pb.ProcessEvent.DataEvent]
_Stdout = Oneof[Literal["stdout"], bytes]
_Stderr = Oneof[Literal["stderr"], bytes]
_End = Oneof[Literal["end"], pb.ProcessEvent.EndEvent]
_Quiet = Oneof[Literal["keepalive"], pb.ProcessEvent.KeepAlive]


class ProcessService(ProcessProtocol):
    def __init__(self, table: ProcessTable) -> None:
        self._table = table

    async def list(self, _request: pb.ListRequest, _context: Context) -> pb.ListResponse:
        return pb.ListResponse(
            processes=[
                pb.ProcessInfo(
                    pid=process.pid,
                    tag=process.tag,
                    config=pb.ProcessConfig(cmd=process.command[0], args=list(process.command[1:]), cwd=process.cwd),
                )
                for process in self._table.list()
            ]
        )

    async def start(self, request: pb.StartRequest, context: Context) -> AsyncIterator[pb.StartResponse]:
        config = request.process
        if config is None or not config.cmd:
            raise ConnectError(Code.INVALID_ARGUMENT, "no command")
        if request.pty is not None:
            raise ConnectError(Code.UNIMPLEMENTED, "this host offers no pseudo-terminals")
        _check_caller(context.request_headers)
        timeout_ms = context.timeout_ms
        try:
            process, listener = await self._table.start(
                [config.cmd, *config.args],
                dict(config.envs),
                config.cwd,
                stdin=request.stdin or not request.has_field("stdin"),
                tag=request.tag,
                timeout_s=None if timeout_ms is None else timeout_ms / 1000,
            )
        except OSError as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"cannot start the command: {error.strerror}") from error
        async for event in _follow(process, listener):
            yield pb.StartResponse(event=event)

    async def connect(self, request: pb.ConnectRequest, _context: Context) -> AsyncIterator[pb.ConnectResponse]:
        process = self._select(request.process)
        async for event in _follow(process, process.add_listener()):
            yield pb.ConnectResponse(event=event)

    async def send_input(self, request: pb.SendInputRequest, _context: Context) -> pb.SendInputResponse:
        await _write_stdin(self._select(request.process), request.input)
        return pb.SendInputResponse()

    async def stream_input(self, request: AsyncIterator[pb.StreamInputRequest], _context: Context) -> pb.StreamInputResponse:
        process: Process | None = None
        async for message in request:
            match message.event:
                case Oneof(value=pb.StreamInputRequest.StartEvent() as start):
                    process = self._select(start.process)
                case Oneof(value=pb.StreamInputRequest.DataEvent() as data):
                    if process is None:
                        raise ConnectError(Code.INVALID_ARGUMENT, "data before the process was selected")
                    await _write_stdin(process, data.input)
        return pb.StreamInputResponse()

    async def close_stdin(self, request: pb.CloseStdinRequest, _context: Context) -> pb.CloseStdinResponse:
        process = self._select(request.process)
        if process.stdin is not None:
            process.stdin.close()
        return pb.CloseStdinResponse()

    async def send_signal(self, request: pb.SendSignalRequest, _context: Context) -> pb.SendSignalResponse:
        if request.signal == pb.Signal.UNSPECIFIED:
            raise ConnectError(Code.INVALID_ARGUMENT, "no signal")
        self._select(request.process).signal(int(request.signal))
        return pb.SendSignalResponse()

    async def update(self, _request: pb.UpdateRequest, _context: Context) -> pb.UpdateResponse:
        raise ConnectError(Code.UNIMPLEMENTED, "this host offers no pseudo-terminals")

    def _select(self, selector: pb.ProcessSelector | None) -> Process:
        try:
            match selector.selector if selector else None:
                case Oneof(value=int() as pid):
                    return self._table.find(pid=pid)
                case Oneof(value=str() as tag):
                    return self._table.find(tag=tag)
        except LookupError as error:
            raise ConnectError(Code.NOT_FOUND, "no such process") from error
        raise ConnectError(Code.INVALID_ARGUMENT, "no process selected")


async def _follow(process: Process, listener: Listener) -> AsyncIterator[pb.ProcessEvent]:
    try:
        yield pb.ProcessEvent(event=_Started("start", pb.ProcessEvent.StartEvent(pid=process.pid)))
        while True:
            try:
                async with asyncio.timeout(_KEEP_ALIVE_S):
                    event = await listener.get()
            except TimeoutError:
                yield pb.ProcessEvent(event=_Quiet("keepalive", pb.ProcessEvent.KeepAlive()))
                continue
            if isinstance(event, ProcessExit):
                yield _end(event)
                return
            yield _data(event)
    finally:
        process.remove_listener(listener)


def _data(event: OutputChunk) -> pb.ProcessEvent:
    output = _Stdout("stdout", event.data) if event.stream == "stdout" else _Stderr("stderr", event.data)
    return pb.ProcessEvent(event=_Data("data", pb.ProcessEvent.DataEvent(output=output)))


def _end(event: ProcessExit) -> pb.ProcessEvent:
    if event.timed_out:
        raise ConnectError(Code.DEADLINE_EXCEEDED, "the command reached its deadline and was killed with its group")
    error = None if event.exit_code == 0 else event.status
    if event.out_of_memory:
        error = MEMORY_LIMIT_REACHED
    end = pb.ProcessEvent.EndEvent(exit_code=event.exit_code, exited=True, status=event.status, error=error)
    return pb.ProcessEvent(event=_End("end", end))


async def _write_stdin(process: Process, message: pb.ProcessInput | None) -> None:
    match message.input if message else None:
        case Oneof(field="stdin", value=data) if process.stdin is not None:
            try:
                process.stdin.write(data)
                await process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError) as error:
                raise ConnectError(Code.FAILED_PRECONDITION, "the process reads no more input") from error
        case _:
            raise ConnectError(Code.FAILED_PRECONDITION, "the process has no open stdin")


def _check_caller(headers: Headers) -> None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        check_user(base64.b64decode(value).decode().partition(":")[0])
    except ValueError as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
