"""Errors as RFC 9457 problem details."""

from typing import ClassVar

from pydantic import Field

from api.domain.problem_codes import Code, ProblemCode
from api.schemas.base import ResponseModel


class ProblemField(ResponseModel):
    """One wrong field of a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the wrong field, or /name of a query parameter.")
    message: str


class QuotaUse(ResponseModel):
    """The quota that a request would exceed."""

    name: str = Field(examples=["nodes"])
    limit: float
    used: float = Field(description="The use before this request.")
    asked: float = Field(description="The amount that this request would add.")


class Problem(ResponseModel):
    """Why a request was refused or failed (RFC 9457)."""

    all_are_sent: ClassVar[bool] = False

    type: str = Field(description="A URI reference that names the kind of problem.", examples=["/problems/not_found"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request's path and id.", examples=["/v1/clusters/cls_9x7k3m2p#req_1f0c"])
    code: Code
    quota: QuotaUse | None = Field(None, description="With quota_exceeded: the quota.")
    prediction_id: str | None = Field(None, description="The failed prediction, when the client waited for it.")
    model_id: str | None = Field(None, description="The failed export, when the client waited for it.")
    errors: list[ProblemField] | None = Field(None, description="With 422: the wrong fields.")


class ProblemExplanation(ResponseModel):
    """What an error code means, and what to do about it."""

    code: Code
    meaning: str
    advice: str = Field(description="What the client can do.")

    @classmethod
    def of(cls, entry: ProblemCode) -> "ProblemExplanation":
        return cls(code=entry.code, meaning=entry.meaning, advice=entry.advice)
