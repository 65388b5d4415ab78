"""A process with an OPC UA face over a table of its own: tags of every type, driven by JSON lines on standard input.

    {"put": {"plant.a": [value, status, source_time_ns]}}   one change each, in order
    {"ramp": "plant.float64", "count": 10000, "period_s": 0.001}   a change a period: 1.0, 2.0, …
    {"burst": ["plant.a", …], "rounds": 1000}               all of them change at once, so many times: 1.0, 2.0, …
    {"writes": {"delay_s": 3, "status": 0}}                 how the device answers from now on
    {"hide": ["plant.a", …]}                                show all but these from now on
    {"limit_memory": bytes}                                 the ceiling of the stack from now on
    {"counters": true}, {"written": true}, {"reports": true}

Each is answered with one line. The first line says the endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from array import array
from typing import Any

from bifrost._native import backend, records
from bifrost.core.columns import TagColumns
from bifrost.core.config_rules import Endpoint
from bifrost.core.config_sections import OpcUaConfig
from bifrost.core.contracts import Face, FaceEvent, FaceWrite
from bifrost.core.datatypes import TypeSpec, parse_type
from bifrost.core.limits import Limits
from bifrost.core.runtime import Runtime
from bifrost.core.table import Batch, RowColumns
from bifrost.core.tag import Tag
from bifrost.opcua.address_space import Diagnostic, ShownDevice, Space, compile_space
from bifrost.opcua.faces import FaceSettings, Stack, find_stack, make_face
from bifrost.opcua.memory import opcua_region
from bifrost.opcua.security import Pki, access_of
from bifrost.opcua.users import Users

SCALARS = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "bcd16",
    "bcd32",
]
TYPES = [*SCALARS, "string[32]", *(f"{name}[4]" for name in SCALARS)]


def tag_name(datatype: str) -> str:
    return datatype.replace("[", "x").replace("]", "")


def sample_tags(extra: int) -> list[Tag]:
    tags = [
        Tag(tag_name(datatype), index + 1, datatype, group="types", writable=True)
        for index, datatype in enumerate(TYPES)
    ]
    tags.append(Tag("locked", 1_000, "float64", description="Never written"))
    tags.append(Tag("level", 1_001, "float64", unit="°C", range=(0.0, 150.0), writable=True, description="Steam drum"))
    tags.append(Tag("beat", 1_002, "float64", max_interval_ns=1, description="Each value is a change"))
    tags += [Tag(f"n{index}", 2_000 + index, "float64", group="many") for index in range(extra)]
    return tags


class Owner:
    """The gateway's part: answers writes as told, after a while, and remembers what it was told."""

    def __init__(self) -> None:
        self.face: Face | None = None
        self.delay_s = 0.0
        self.status = 0
        self.written: list[Any] = []
        self.reports: list[Any] = []

    def write(self, write: FaceWrite) -> None:
        self.written.append([write.row, write.value, write.who])
        asyncio.get_running_loop().call_later(self.delay_s, self._answer, write.token)

    def _answer(self, token: int) -> None:
        assert self.face is not None
        self.face.finish_write(token, self.status)

    def abandon_write(self, token: int, status: int) -> bool:
        return False

    def report(self, event: FaceEvent) -> None:
        self.reports.append([event.name, event.who, dict(event.details)])


class Bench:
    """A runtime with its tags, and the face."""

    def __init__(self, options: argparse.Namespace) -> None:
        chosen = {name: int(value) for name, _, value in (text.partition("=") for text in options.limit)}
        self.columns = TagColumns(1_000_000)
        self.columns.begin_device("plant")
        for tag in sample_tags(options.extra):
            self.columns.append(tag)
        self.columns.freeze()
        count = len(self.columns)
        limits = Limits.for_gateway(
            count, links_configured=1, has_opcua=True, chosen={"memory_bytes_max": 1 << 30} | chosen
        )
        self.runtime = Runtime(limits)
        specs = [parse_type(str(tag.datatype)) for tag in self.columns]
        self.definitions = RowColumns.from_types([(spec, False) for spec in specs])
        self.definitions.max_intervals = array("q", (tag.max_interval_ns for tag in self.columns))
        self.runtime.table.define(self.definitions)
        self.runtime.table.define(RowColumns.from_types([(TypeSpec(specs[0].base), False)]))
        self.runtime.table.name_of = lambda row: self.columns.full_name(row) if row < count else "plant#Connected"
        self.rows = {name: row for row, name in enumerate(self.columns.full_names())}
        self.hidden: set[str] = set()
        self.owner = Owner()
        stack = Stack(options.stack) if options.stack else find_stack(is_core_compiled=backend.BACKEND == "c")
        self.face = make_face(stack, self._settings(options, limits), self.make_space)
        self.owner.face = self.face

    def make_space(self) -> Space:
        definitions, count = self.definitions, len(self.columns)
        shown = [row for name, row in self.rows.items() if name not in self.hidden]
        connected = Diagnostic("Connected", records.TYPE_BOOL, count, "Whether the connection is up.")
        device = ShownDevice(
            "plant",
            100_000_000,
            shown,
            [definitions.value_types[row] for row in shown],
            [definitions.cell_sizes[row] for row in shown],
            [definitions.kinds[row] for row in shown],
            [connected],
        )
        return compile_space(self.columns, [device], [], rows_count=count + 1, writes=True)

    def _settings(self, options: argparse.Namespace, limits: Limits) -> FaceSettings:
        config = OpcUaConfig(bind=Endpoint("127.0.0.1", options.port))
        pki = Pki(options.directory)
        return FaceSettings(
            config.bind,
            access_of(config),
            pki,
            Users(pki.users_file, limits.opcua_users_max),
            "bench",
            "0.0.test",
            limits,
            opcua_region(limits, self.columns).bytes,
            self.runtime.table,
            time.time_ns,
        )

    def put(self, name: str, value: Any, status: int, source_time_ns: int) -> None:
        batch = Batch(array("I", [self.rows[name]]), [value], source_time_ns, status)
        self.runtime.table.put(batch, server_time_ns=time.time_ns(), now_ns=time.monotonic_ns())

    async def ramp(self, name: str, count: int, period_s: float) -> list[int]:
        """Changes at a steady pace; as many at once as are due, each with its own time."""
        started_s, first_ns = time.monotonic(), time.time_ns()
        done = 0
        while done < count:
            due = min(count, int((time.monotonic() - started_s) / period_s) + 1)
            for number in range(done, due):
                self.put(name, float(number + 1), 0, first_ns + round(number * period_s * 1e9))
            done = due
            await asyncio.sleep(period_s)
        return [first_ns, count]

    def burst(self, names: list[str], rounds: int) -> None:
        """Changes as fast as they can be put, with nothing in between."""
        rows = array("I", (self.rows[name] for name in names))
        for number in range(1, rounds + 1):
            batch = Batch(rows, [float(number)] * len(rows), time.time_ns(), 0)
            self.runtime.table.put(batch, server_time_ns=time.time_ns(), now_ns=time.monotonic_ns())

    async def obey(self, command: dict[str, Any]) -> Any:
        for name, (value, status, source_time_ns) in command.get("put", {}).items():
            self.put(name, value, status, source_time_ns or time.time_ns())
        if "ramp" in command:
            return await self.ramp(command["ramp"], command["count"], command["period_s"])
        if "burst" in command:
            self.burst(command["burst"], command["rounds"])
        if "writes" in command:
            self.owner.delay_s = command["writes"].get("delay_s", 0.0)
            self.owner.status = command["writes"].get("status", 0)
        if "hide" in command:
            self.hidden = set(command["hide"])
            self.face.replace_space(self.make_space())
        if "limit_memory" in command:
            from bifrost._native import opcua

            opcua.limit_memory(command["limit_memory"])
        if "counters" in command:
            return dict(self.face.counters())
        if "written" in command:
            return self.owner.written
        return self.owner.reports if "reports" in command else None


def tell(value: object) -> None:
    """One line of JSON, whole: where PYTHONUNBUFFERED is set, `print` cuts what a pipe does not take at once."""
    rest = memoryview(json.dumps(value).encode() + b"\n")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


async def serve(options: argparse.Namespace) -> None:
    bench = Bench(options)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(bench.face.run(bench.owner), name="face")
        while not bench.face.url and not serving.done():  # a face has no event for it
            await asyncio.sleep(0.01)
        tell({"url": bench.face.url, "pid": os.getpid()})
        while line := await reader.readline():
            tell(await bench.obey(json.loads(line)))
        serving.cancel()
    bench.runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--extra", type=int, default=0)
    parser.add_argument("--stack", default="")
    parser.add_argument("--limit", action="append", default=[])
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
