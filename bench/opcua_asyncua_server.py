"""A foreign server to measure against: `python -m bench.opcua_asyncua_server COUNT` serves COUNT variables by asyncua on 127.0.0.1.

The ids are those of our bench, `ns=2;s=plant.many.n0` and on, in one folder. Says its address, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from asyncua import Server, ua


async def serve(count: int) -> None:
    """Serves until the standard input ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    assert await server.register_namespace("urn:bifrost:tags") == 2
    folder = await server.nodes.objects.add_folder(ua.NodeId("plant.many", 2), ua.QualifiedName("many", 2))
    for index in range(count):
        await folder.add_variable(ua.NodeId(f"plant.many.n{index}", 2), ua.QualifiedName(f"n{index}", 2), float(index))
    async with server:
        print(f"opc.tcp://127.0.0.1:{port}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
