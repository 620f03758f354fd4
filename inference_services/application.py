"""KServe's FastAPI application, with middlewares of ours around it.

What `FastAPI.add_middleware` adds lies behind six layers of FastAPI's and Starlette's own, which do nothing for a
request that our middlewares answer, and leave no way in behind some of them, as `DirectRoute` needs it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from timing_asgi import TimingMiddleware  # type: ignore[import-untyped]

from inference_services.asgi import Application, Message, Receive, Send


class ServiceApplication(FastAPI):
    """Leaves out KServe's timing of requests, which ends in log lines that nobody reads here.

    Attributes:
        outermost: the application with all that surrounds it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.outermost: Application = super().__call__

    @classmethod
    def like(cls, app: FastAPI) -> ServiceApplication:
        """A new one with the settings of KServe's."""
        response = app.router.default_response_class
        return cls(
            title=app.title, version=app.version, docs_url=app.docs_url, redoc_url=None, default_response_class=response
        )

    def surround(self, middleware: Any, **options: Any) -> None:
        """Puts an ASGI middleware around all that is there: the last one added runs first."""
        self.outermost = middleware(self.outermost, **options)

    def add_middleware(self, middleware_class: Any, *args: Any, **kwargs: Any) -> None:
        """As FastAPI's, inside its own layers."""
        if middleware_class is not TimingMiddleware:
            super().add_middleware(middleware_class, *args, **kwargs)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves one request, or the lifespan."""
        await self.outermost(scope, receive, send)
