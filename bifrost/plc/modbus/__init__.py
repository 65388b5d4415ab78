"""Modbus: address grammar, frames, a client core and a server without I/O, the asyncio server and the simulated plant.

The standard is the *Modbus Application Protocol Specification V1.1b3* (cited as AP) and the *Messaging on TCP/IP
Implementation Guide V1.0b* (cited as TG).
"""

from __future__ import annotations

__all__: list[str] = []
