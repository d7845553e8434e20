"""What a request is answered with where it cannot be served."""

from __future__ import annotations

from http import HTTPStatus

from gandb.core.errors import GandbError

VERSION_NOT_SUPPORTED = 553


class RequestError(GandbError):
    """A request that is refused.

    Args:
        status: of the answer.
        detail: what is wrong, for whoever asked.
        parameter: the query parameter that is wrong, if one is.
    """

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter

    @property
    def title(self) -> str:
        """The name of the status."""
        if self.status == VERSION_NOT_SUPPORTED:
            return "Version Not Supported"
        return HTTPStatus(self.status).phrase


def bad_request(detail: str, parameter: str | None = None) -> RequestError:
    """Return the refusal of a request that is wrong (400)."""
    return RequestError(400, detail, parameter)


def not_implemented(detail: str) -> RequestError:
    """Return the refusal of a filter that uses an optional feature, or mixes types (501)."""
    return RequestError(501, detail, "filter")
