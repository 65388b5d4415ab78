"""The OPC UA face: every tag as a node that any SCADA can browse, read, follow and write.

`address_space` compiles tags into nodes, `server` serves them by the compiled stack, `asyncua_face` by the Python package
asyncua where the compiled one is not there; `security`, `certificate` and `users` say who may connect, `memory` how much it
all takes. Import the modules themselves.
"""

from __future__ import annotations

__all__: list[str] = []
