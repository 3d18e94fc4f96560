"""The demonstration: real flights, upserted twice by a worker process of its own, and every count checked.

Owns what `heavylift demo` shows. Refuses to be needed by anything else: no other part of the worker imports it, but the
command.
"""
