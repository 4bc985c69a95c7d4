"""Errors of the control API as JSON: `{"error": code, "message": what is wrong and what to do}`."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from audience_core.errors import AlreadyExists, LimitReached, NotFound, RetryableError
from segment_api.asgi import error_body

_CODES = {404: "not_found", 405: "method_not_allowed"}


class ErrorAnswer(BaseModel):
    """Body of every answer from 400 on."""

    error: str = Field(description="code for programs")
    message: str = Field(description="what is wrong and what to do")


ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "the bearer token is absent or wrong"},
    404: {"model": ErrorAnswer, "description": "no such account, connector, key or segment"},
    422: {"model": ErrorAnswer, "description": "a field breaks a rule that the message names"},
    503: {"model": ErrorAnswer, "description": "Redis or Kafka is away; try again after Retry-After seconds"},
}


class InvalidField(Exception):
    """A field breaks a rule that the declared types can't express. The message names both, never the value."""


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of the application answer as JSON."""
    app.add_exception_handler(NotFound, lambda _, error: _answer(404, "not_found", f"{error}; check the id"))
    app.add_exception_handler(
        AlreadyExists, lambda _, error: _answer(409, "already_exists", f"{error}; use it, or choose another id")
    )
    app.add_exception_handler(LimitReached, lambda _, error: _answer(409, "limit_reached", str(error)))
    app.add_exception_handler(
        RetryableError, lambda _, error: _answer(503, "unavailable", f"{error}; try again", {"Retry-After": "1"})
    )
    app.add_exception_handler(InvalidField, lambda _, error: _answer(422, "invalid", f"{error}; correct it"))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(
        Exception, lambda *_: _answer(500, "internal", "an unexpected fault; it is logged, try again or report it")
    )


def _answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error_body(code, message), status, headers, "application/json")


def _invalid(_: Request, error: Exception) -> Response:
    # messages of pydantic name the rule; the values stand in other parts of its errors, which are left out
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    lines = [f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems]
    return _answer(422, "invalid", f"{'; '.join(lines)}; correct these fields")


def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "http_error")
    return _answer(error.status_code, code, f"{error.detail}; see /openapi.json for what exists", error.headers)
