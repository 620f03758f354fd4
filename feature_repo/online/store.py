"""Which of the two ways to ask leads to the online store that an address or a client means."""

from __future__ import annotations

import math
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from feature_repo.online.cluster import Cluster
from feature_repo.online.server import Address, Server
from feature_repo.settings import RedisType

Store = Server | Cluster
# A reader's request has a timeout of milliseconds. A writer's, of thousands of commands behind those of other
# partitions, has none: it waits, as redis-py would.
_READER_PATIENCE_S = 1.0
_WRITER_PATIENCE_S = math.inf


def store_at(url: str, redis_type: RedisType) -> Store:
    """The store at an address; of a cluster, that of any of its servers."""
    address = Address.parse(url)
    return (Cluster if redis_type == "redis_cluster" else Server)(address, _READER_PATIENCE_S)


def client_at(url: str, redis_type: RedisType) -> Any:
    """An asynchronous redis-py client for everything but the features: streams, checkpoints, scripts."""
    return RedisCluster.from_url(url) if redis_type == "redis_cluster" else Redis.from_url(url)


def store_of(client: Any) -> Store:
    """The store that an asynchronous redis-py client is connected to, entered in the same way."""
    address = Address.of_client(client)
    return (Cluster if isinstance(client, RedisCluster) else Server)(address, _WRITER_PATIENCE_S)
