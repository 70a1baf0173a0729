"""Which trace of its caller's a request belongs to: the header `traceparent` of W3C Trace Context (level 1, section 3.2).

What follows that recommendation: the header is read as section 3.2.2 says, versions of the future included, and one
that is not as it says is as none. `tracestate` is another vendor's and would be passed on with an outgoing request;
answering sends none. The answer carries `traceresponse` (level 2, working draft): the trace, and the span of this server.
"""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

from .incoming import Headers, request_id

TRACE: ContextVar[str] = ContextVar("trace", default="")
"""Trace id of the request that is being answered, or its request id; empty where it came with neither."""
_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)


def trace_of(headers: Headers) -> tuple[str, tuple[tuple[bytes, bytes], ...]]:
    """What the journal and the log call a request, and the header that tells its caller."""
    given = headers.get(b"traceparent")
    found = _PARENT.fullmatch(given) if given is not None else None
    if found is None or (found[1] == b"00" and found[4]):  # version 00 has four parts
        return (request_id(headers) or b"").decode(), ()
    span = os.urandom(8).hex().encode()
    return found[2].decode(), ((b"traceresponse", b"00-%s-%s-%s" % (found[2], span, found[3])),)
