"""The HTTP front door: thin. Parses, asks the serving room, answers; errors as RFC 9457 problem details."""

from .server import Server, serve

__all__ = ["Server", "serve"]
