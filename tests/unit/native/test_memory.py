"""What the cores say about their memory: it follows the limits, and what Python's objects take is not more than was said."""

from __future__ import annotations

import gc
import tracemalloc
from array import array

from bifrost._native import records as r

TABLE = r.TableLimits(tags_count_max=1000, ring_changes_count=2048, ring_body_bytes=4096, cell_bytes=4096)
SCAN = r.ScanLimits(
    links_count_max=50,
    window_max=4,
    frame_bytes_max=260,
    request_bytes_max=260,
    oneshots_count_max=64,
    scratch_bytes=64,
)
SHELL = r.ShellLimits(
    commands_count_max=16, notices_count_max=16, notice_bytes_max=260, request_bytes_max=260, read_bytes=1024
)
OPTIONS = r.LinkOptions(
    timeout_ns=10**9,
    reconnect_min_ns=10**9,
    reconnect_max_ns=10**9,
    breaker_min_ns=10**9,
    breaker_max_ns=10**9,
    window=1,
    timeouts_to_close=3,
    breaker_failures=3,
    frame_bytes_max=260,
    frame_bytes_min=8,
    length_add=6,
    length_offset=4,
    length_little=0,
    transaction_offset=0,
    transaction_bytes=2,
    transaction_little=0,
    sync_offset=2,
    sync=b"\0\0",
)


def test_memory_of_a_table_follows_its_limits(backend):
    known = backend.table_bytes(TABLE)
    assert known >= 1000 * 32 + 2048 * 32 + 4096 + 4096
    assert backend.table_bytes(TABLE._replace(ring_changes_count=4096)) == known + 2048 * 32
    assert backend.table_bytes(TABLE._replace(ring_body_bytes=8192)) == known + 4096
    assert backend.table_bytes(TABLE._replace(cell_bytes=8192)) == known + 4096


def test_memory_of_an_engine_follows_its_limits(backend):
    known = backend.scan_bytes(SCAN)
    assert known > 0
    assert backend.scan_bytes(SCAN._replace(links_count_max=100)) > known * 3 // 2
    assert backend.scan_bytes(SCAN._replace(oneshots_count_max=128)) > known


def test_only_c_has_a_shell(backend):
    if backend.BACKEND == "c":
        assert backend.shell_bytes(SHELL, SCAN) > SHELL.read_bytes
        return
    assert backend.shell_bytes(SHELL, SCAN) == 0
    scan = backend.make_scan(SCAN, backend.make_table(TABLE), 1)
    assert backend.make_shell(SHELL, SCAN, scan) is None


def traced(make) -> int:
    """Bytes of Python objects that `make` leaves behind."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return taken


def test_table_takes_no_more_than_it_said(backend):
    def make():
        table = backend.make_table(TABLE)
        count = TABLE.tags_count_max
        columns = array("d", bytes(8 * count)), array("q", bytes(8 * count)), array("I", bytes(4 * count))
        assert table.define(0, bytes([r.KIND_INT]) * count, *columns) == r.OK
        tags, statuses = array("I", range(count)), array("I", bytes(4 * count))
        assert table.put(tags, array("Q", bytes(8 * count)), statuses, 1, 1, 1, 0) == r.OK
        return table

    assert traced(make) <= backend.table_bytes(TABLE) + 8192  # and the object itself


def test_engine_at_rest_takes_no_more_than_it_said(backend):
    table = backend.make_table(TABLE)

    def make():
        scan = backend.make_scan(SCAN, table, 1)
        scan.step(0, [r.Event(r.EVENT_LINK, link=link, data=OPTIONS) for link in range(SCAN.links_count_max)])
        return scan

    make()  # imports what it needs
    assert traced(make) <= backend.scan_bytes(SCAN) + 8192  # and the object itself
