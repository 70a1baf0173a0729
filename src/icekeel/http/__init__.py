"""The HTTP front door: thin. Parses, asks the serving room, answers; errors as RFC 9457 problem details.

Knows the app and the pages of the console; nothing of how features, versions or journals work.
"""

from .openapi import openapi
from .process import serve
from .server import Server

__all__ = ["Server", "openapi", "serve"]
