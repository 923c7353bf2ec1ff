"""Private names of uvicorn, known to work in 0.54."""

from uvicorn.protocols.http.h11_impl import H11Protocol


class Http(H11Protocol):
    """A connection, for `Config(http=…)`. That takes a class, but the ones to derive from are in no public module.

    `studio.web.connections` relies on its connections, transport, loop, client and cycle, and extends handle_events and
    on_response_complete.
    """

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the studio needs no websockets, and is not to be given any. No setting says so."""
