"""Embedded PostgreSQL and Redis, for a machine that has neither: real servers, from wheels, under `.heavylift/`.

Owns their processes and who uses them. Refuses to know what is stored in them.
"""

from worker.embedded.postgres import PostgresProcess
from worker.embedded.redis import RedisProcess
from worker.embedded.servers import EmbeddedServers, ServerUrls, ensure_servers

__all__ = ["EmbeddedServers", "PostgresProcess", "RedisProcess", "ServerUrls", "ensure_servers"]
