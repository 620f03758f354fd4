"""KServe's gRPC server, with interceptors: KServe 0.21 has no place for any."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import kserve.model_server
from grpc import aio
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer


def use_interceptors(interceptors: Sequence[aio.ServerInterceptor]) -> None:
    """Puts these around KServe's own in every gRPC server that `ModelServer` starts, the first outermost."""

    class InterceptedServer(GRPCServer):
        async def start(self, max_workers: int) -> None:
            self._server = aio.server(
                ThreadPoolExecutor(max_workers),
                interceptors=(*interceptors, ExceptionToStatusInterceptor()),
                options=[(f"grpc.{name}", self._kwargs[f"grpc_{name}"]) for name in _LIMITS],
            )
            servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
            add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
            self._server.add_insecure_port(f"[::]:{self._port}")
            await self._server.start()
            await self._server.wait_for_termination()

    kserve.model_server.GRPCServer = InterceptedServer


_LIMITS = ("max_send_message_length", "max_receive_message_length")
