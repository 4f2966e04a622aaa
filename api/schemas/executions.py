"""Models of code that is run in a sandbox: while the client waits, or in the background."""

import codecs
from typing import Annotated

from pydantic import AfterValidator, Field

from api.domain.paths import check_path
from api.domain.sandboxes import ExecuteOptions, ExecutionLimit, ExecutionOutput, OutputPart
from api.domain.specs import ExecutionRequest, ExecutionSpec, Language
from api.domain.status import ExecutionState
from api.schemas.base import Failure, Int64, RequestModel, ResponseModel, Timestamp, filled, storable
from api.store.tables import ExecutionRow

_LONGEST_CHARACTER = 4
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_MAX_ARGS_BYTES = 100_000
Text = Annotated[str, AfterValidator(storable)]


def _small_env(env: dict[str, str]) -> dict[str, str]:
    if sum(len(f"{name}={value}".encode()) for name, value in env.items()) > _MAX_ARGS_BYTES:
        raise ValueError(f"must have at most {_MAX_ARGS_BYTES} bytes in all")
    return env


def _small_args(args: list[str]) -> list[str]:
    if sum(len(argument.encode()) for argument in args) > _MAX_ARGS_BYTES:
        raise ValueError(f"must have at most {_MAX_ARGS_BYTES} bytes in all")
    return args


EnvName = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Code(RequestModel):
    """Code, and what it gets."""

    code: Annotated[str, AfterValidator(filled), AfterValidator(storable), Field(min_length=1, max_length=1_000_000)]
    language: Language | None = Field(None, description="By default the language of the template.")
    env: Annotated[dict[EnvName, Text], AfterValidator(_small_env)] = Field(
        default_factory=dict,
        max_length=200,
        description="Environment variables of the code, in addition to those of the sandbox; 100,000 bytes in all.",
        examples=[{"BATCH": "16"}],
    )
    args: Annotated[list[Text], AfterValidator(_small_args)] = Field(
        default_factory=list,
        max_length=1000,
        description="Arguments of the code; 100,000 bytes in all.",
        examples=[["--rows", "10"]],
    )
    stdin: Annotated[str, Field(max_length=1_000_000), AfterValidator(storable)] | None = Field(
        None, description="The code's standard input; by default it is empty."
    )
    cwd: Annotated[str, Field(max_length=1024)] | None = Field(
        None,
        description="An existing folder in the sandbox, as an absolute path; by default the home folder.",
        examples=["/data"],
    )

    @property
    def folder(self) -> str | None:
        """The working folder.

        Raises:
            InvalidError: it is not an absolute path in the sandbox.
        """
        return None if self.cwd is None else check_path(self.cwd, "/cwd", glob=True)


class ExecuteRequest(Code):
    """Code that runs while the client waits."""

    timeout_s: float | None = Field(None, gt=0, le=600, description="By default the deployment's limit for executions.")

    def options(self) -> ExecuteOptions:
        """Return what the code gets.

        Raises:
            InvalidError: `cwd` is not an absolute path in the sandbox.
        """
        return ExecuteOptions(self.env, self.args, self.stdin, self.folder)


class ExecutionCreate(Code):
    """Code that runs in the background."""

    timeout_s: float | None = Field(
        None, gt=0, le=86_400, description="The longest run in seconds. By default the deployment's limit: one hour."
    )

    def spec(self) -> ExecutionSpec:
        """Return what to run.

        Raises:
            InvalidError: `cwd` is not an absolute path in the sandbox.
        """
        request = ExecutionRequest(
            code=self.code, language=self.language, env=self.env, args=tuple(self.args), stdin=self.stdin, cwd=self.folder
        )
        return ExecutionSpec(request, self.timeout_s)


class Execution(ResponseModel):
    """Code in the background of a sandbox. Its output stays in the sandbox and ends with it."""

    execution_id: str = Field(examples=["exec_7h2k9m4p1q"])
    cluster_id: str
    node_id: str
    sandbox_id: str
    status: ExecutionState
    exit_code: int | None = Field(description="null until the code has ended by itself. After signal n it is 128 + n.")
    limit: ExecutionLimit | None = Field(description="The limit that ended the code, if any.")
    timeout_s: float = Field(description="The longest run in seconds.")
    stdout: str | None = Field(
        description="The end of the output so far. null in lists, and when the sandbox does not have it (any more)."
    )
    stderr: str | None = Field(description="As `stdout`.")
    stdout_bytes: Int64 = Field(description="The size of the whole output so far.")
    stderr_bytes: Int64 = Field(description="The size of the whole output so far.")
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    error: Failure | None

    @classmethod
    def of(cls, row: ExecutionRow, output: ExecutionOutput | None = None) -> "Execution":
        """Return the execution, with its output if it is known."""
        known = output is not None and output.state in ("running", "ended")
        return cls(
            execution_id=row.id,
            cluster_id=row.cluster_id,
            node_id=row.node_id,
            sandbox_id=row.sandbox_id,
            status=row.status,
            exit_code=row.exit_code,
            limit=row.limit,
            timeout_s=row.timeout_s,
            stdout=_tail(output.stdout) if known and output else None,
            stderr=_tail(output.stderr) if known and output else None,
            stdout_bytes=output.stdout.size if known and output else row.stdout_bytes,
            stderr_bytes=output.stderr.size if known and output else row.stderr_bytes,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.finished_at,
            error=Failure.of(row.error),
        )


def _tail(part: OutputPart) -> str:
    """Return the text of a part, without half a character at its begin or its end."""
    data = part.data
    if part.begin > 0:
        # In UTF-8 the bytes after the first one of a character begin with the bits 10.
        data = data[:_LONGEST_CHARACTER].lstrip(_CONTINUATIONS) + data[_LONGEST_CHARACTER:]
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=False)
