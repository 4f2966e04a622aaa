"""Errors as RFC 9457 problem details."""

from pydantic import Field

from api.schemas.base import ResponseModel


class ProblemField(ResponseModel):
    pointer: str = Field(description="JSON pointer (RFC 6901) to the wrong field, or /name of a query parameter")
    message: str


class QuotaUse(ResponseModel):
    name: str = Field(examples=["nodes"])
    limit: float
    used: float = Field(description="the use before this request")
    asked: float = Field(description="the amount that this request would add")


class Problem(ResponseModel):
    type: str = Field(description="a URI reference that names the kind of problem", examples=["/problems/not_found"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="the request's path and id", examples=["/v1/clusters/cls_9x7k3m2p#req_1f0c"])
    code: str = Field(description="a stable snake_case code for programs", examples=["not_found"])
    quota: QuotaUse | None = Field(None, description="with quota_exceeded: the quota")
    prediction_id: str | None = Field(None, description="the failed prediction, when the client waited for it")
    model_id: str | None = Field(None, description="the failed export, when the client waited for it")
    errors: list[ProblemField] | None = Field(None, description="with 422: the wrong fields")
