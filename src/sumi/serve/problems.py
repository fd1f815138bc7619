"""What went wrong, as a reply: one shape for every route, OpenAI's, with A1111's `detail` beside it. Nothing that was sent is echoed."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request as Asked
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sumi.engine.job import Failure
from sumi.errors import ConflictError, EngineError, JobError, OutputError, SumiError
from sumi.request import FIELDS


class Refusal(SumiError):
    """What a server does not do for the one who asks, by the status of HTTP that says so. code: one word, for programs."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


class Failed(SumiError):
    """A job came to its end without a picture."""

    def __init__(self, why: Failure) -> None:
        super().__init__(why.message)
        self.why = why


OURS = ("defect", "memory", "poison", "nan", "output")
"""Failures that asking otherwise may not mend: all others are of what was asked."""


LONGEST = 1000
"""Characters of a message."""


def reply(status: int, code: str, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The reply that tells of a problem."""
    kind = "server_error" if status >= 500 else "authentication_error" if status in (401, 403) else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}, "detail": message}
    told = dict(headers or {})
    if status not in (429, 503):  # what is refused for good is not to be asked again
        told["x-should-retry"] = "false"
    return JSONResponse(body, status, told)


def told(error: SumiError) -> JSONResponse:
    """The reply to an error of sumi's family."""
    message = " ".join(str(error).split())
    if len(message) > LONGEST:  # of a name that was sent, perhaps
        message = message[:LONGEST] + "..."
    match error:
        case Refusal():
            return reply(error.status, error.code, message, headers=error.headers)
        case Failed():
            status = 500 if error.why.kind in OURS else 400
            return reply(status, error.why.kind, message)
        case JobError():
            return reply(404, "not_found", message)
        case ConflictError():
            return reply(409, "conflict", message)
        case EngineError() | OutputError():  # it may name folders
            return reply(503, "unavailable", "the engine cannot do this now: ask again later", headers={"Retry-After": "5"})
    first = message.partition(" ")[0]
    return reply(400, type(error).__name__.removesuffix("Error").lower(), message, param=first if first in FIELDS else None)


async def of_sumi(asked: Asked, error: Exception) -> JSONResponse:
    """For a `SumiError`."""
    assert isinstance(error, SumiError)
    return told(error)


async def of_http(asked: Asked, error: Exception) -> JSONResponse:
    """For what the framework refuses: no such route, or not by that method."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase.lower()
    return reply(error.status_code, phrase.replace(" ", "_"), f"{phrase}: see /openapi.json for what there is", headers=error.headers)


async def of_parameters(asked: Asked, error: Exception) -> JSONResponse:
    """For parameters in a path or a query that are not of their type. Their values are not told again: they may not be text at all."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    name = name if name.isascii() and name.isidentifier() else "a parameter"
    return reply(400, "parameter", f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}", param=name)


async def of_defect(asked: Asked, error: Exception) -> JSONResponse:
    """For anything else, which is a defect of sumi."""
    return reply(500, "defect", f"sumi failed with {type(error).__name__}: this is a defect of sumi")
