"""Enqueueing and looking, for services and commands."""

from worker.client.client import Client, open_client

__all__ = ["Client", "open_client"]
