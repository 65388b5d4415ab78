"""A small MQTT broker as a process of its own, for `bifrost demo` and for trying things: amqtt, MQTT 3.1.1, in memory, on 127.0.0.1.

It is no part of a gateway: a plant that needs a broker on the same machine installs Mosquitto. Needs the extra ``demo``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import sys
from typing import Any, Final

__all__ = ["HOST", "NOT_AVAILABLE", "is_available", "main"]

HOST: Final = "127.0.0.1"
NOT_AVAILABLE: Final = "no MQTT broker: amqtt is not installed; install it with: pip install 'bifrost-gateway[demo]'"

_CLIENTS_COUNT_MAX: Final = 32
_ANONYMOUS: Final = "amqtt.plugins.authentication.AnonymousAuthPlugin"


def is_available() -> bool:
    """Whether amqtt is installed. Imports nothing."""
    return importlib.util.find_spec("amqtt") is not None


async def serve(port: int) -> None:
    """Serves on `port` until cancelled, and says so in one line on standard output. Raises what amqtt raises when it cannot."""
    from amqtt.broker import Broker

    settings: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}", "max_connections": _CLIENTS_COUNT_MAX}},
        "plugins": {_ANONYMOUS: {"allow_anonymous": True}},
    }
    broker = Broker(settings)
    await broker.start()
    sys.stdout.write(f"mqtt://{HOST}:{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serves until a signal ends the process: everything is in memory, so there is nothing to tidy."""
    parser = argparse.ArgumentParser(description="A small MQTT broker in memory, for demonstrations")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    arguments = parser.parse_args()
    if not is_available():
        sys.exit(NOT_AVAILABLE)
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(serve(arguments.port))


if __name__ == "__main__":
    main()
