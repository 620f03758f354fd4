"""What a call to another service carries: the request's id, its trace, and the token that it asks for."""

from __future__ import annotations

from feature_repo.tokens import AUTHORIZATION
from inference_services.request_context import REQUEST_ID, request_id
from inference_services.tokens import TokenFile
from inference_services.tracing import trace_headers


class OutgoingHeaders:
    """Makes the headers of each call.

    Args:
        tokens: the token to send, None for none.
    """

    def __init__(self, tokens: TokenFile | None = None) -> None:
        self._tokens = tokens

    def __call__(self) -> dict[str, str]:
        """The headers of a call that is made now, in lower case; their values are printable ASCII."""
        headers = {} if self._tokens is None else {AUTHORIZATION: self._tokens.authorization()}
        headers |= trace_headers()
        if called := request_id():
            headers[REQUEST_ID] = called
        return headers
