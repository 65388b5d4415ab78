"""The OPC UA stack in C: servers, each in a thread of its own, and the memory they hold.

A thin adapter over the compiled module `_opcua` (open62541, mbedTLS and our glue). There is no twin in Python: where
the module was not built, importing this one raises ImportError, and whoever wanted it says what is missing. As
everywhere at the seam, a refusal is a status and not an exception: an OPC UA StatusCode, 0 for Good.
"""

from typing import NamedTuple

from bifrost._native._opcua import ffi, lib

UNLIMITED_BYTES = 2**64 - 1
"""As the limit: no ceiling."""


class Memory(NamedTuple):
    """What open62541, mbedTLS and our glue hold, over all servers of this process."""

    live_bytes: int
    peak_bytes: int
    limit_bytes: int
    """An allocation beyond it is refused; `UNLIMITED_BYTES` if there is no ceiling."""
    refused_count: int
    """Allocations refused, by the ceiling or by the system."""
    foreign_count: int
    """Blocks freed that were never counted; other than 0 is a bug of ours."""


class Server:
    """One OPC UA server: made, run and deleted by one C thread that the object stands for.

    States: new, serving after a `start` that returned Good, stopped. A stopped server can be started again.
    """

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle: object | None = None

    def start(self, url: str, *, self_signed: bool = False, sessions_max: int = 100) -> int:
        """Listen on `url` (`opc.tcp://HOST:PORT`; port 0 takes a free one) and serve until `stop`.

        `self_signed` makes a certificate that lives as long as the server and offers every security policy with it;
        without it there is no security. `sessions_max` is 1 to 1000. Returns an OPC UA StatusCode: Good once the
        server listens. Waits for that: about 0.1 s, with a certificate up to 2 s more, without the GIL.
        Raises RuntimeError if this server is serving already.
        """
        if self._handle is not None:
            raise RuntimeError("this server is serving already")
        text = ffi.new("char[]", url.encode())
        config = ffi.new("bf_ua_config *", {"url": text, "self_signed": self_signed, "sessions_max": sessions_max})
        handle = ffi.new("bf_ua_server **")
        status: int = lib.bf_ua_server_start(config, handle)
        if status == 0:
            self._handle = handle[0]
        return status

    @property
    def port(self) -> int:
        """The TCP port it listens on; 0 while it is not serving."""
        return 0 if self._handle is None else int(lib.bf_ua_server_port(self._handle))

    def stop(self) -> None:
        """Stop serving and free everything; waits for the thread, about 0.1 s. Does nothing if not serving."""
        if self._handle is not None:
            lib.bf_ua_server_stop(self._handle)
            self._handle = None


def memory() -> Memory:
    """Return the counters as they are now."""
    counters = ffi.new("bf_ua_memory *")
    lib.bf_ua_memory_read(counters)
    return Memory(
        counters.live_bytes,
        counters.peak_bytes,
        counters.limit_bytes,
        counters.refused_count,
        counters.foreign_count,
    )


def limit_memory(limit_bytes: int) -> None:
    """Set the ceiling over all servers, 0 to `UNLIMITED_BYTES`; what is held already is kept."""
    lib.bf_ua_memory_limit(limit_bytes)


def version() -> str:
    """Return the version of open62541, such as `1.4.18`."""
    return bytes(ffi.string(lib.bf_ua_version())).decode()
