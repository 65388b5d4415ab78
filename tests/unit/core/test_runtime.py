"""A runtime has what its limits say, refuses what does not fit, and ends in order."""

from __future__ import annotations

import msgspec
import pytest

from bifrost._native import records
from bifrost.core.errors import LimitError
from bifrost.core.limits import Limits
from bifrost.core.runtime import BackendSizes, Runtime, scan_limits, shell_limits, table_limits


def test_rings_are_rounded_up_to_powers_of_two():
    limits = msgspec.structs.replace(Limits.small(), ring_changes_count=5000, ring_body_bytes=0, tags_count_max=1000)
    assert table_limits(limits)[:3] == (1000, 8192, 0)
    assert table_limits(msgspec.structs.replace(limits, ring_body_bytes=1)).ring_body_bytes == 16
    assert table_limits(msgspec.structs.replace(limits, ring_body_bytes=17)).ring_body_bytes == 32
    assert table_limits(Limits.small()).ring_changes_count == Limits.small().ring_changes_count


def test_engine_and_shell_have_room_for_the_longest_frame():
    limits = Limits.small()
    assert scan_limits(limits).scratch_bytes == 8 * limits.frame_bytes_max
    assert shell_limits(limits).notice_bytes_max == limits.frame_bytes_max
    assert shell_limits(limits).read_bytes >= limits.frame_bytes_max


def test_runtime_has_a_table_and_an_engine(backend):
    with Runtime(Limits.small(), backend=backend) as runtime:
        assert runtime.table.tags_count_max == Limits.small().tags_count_max
        actions, _ = runtime.scan.step(1, [])
        assert actions == []
        assert runtime.scan.counters(0) == records.Counters()
    assert runtime.is_closed


def test_memory_of_a_runtime_is_added_up_before_it_is_taken(backend):
    limits = msgspec.structs.replace(
        Limits.small(), memory_bytes_max=1 << 20, tags_count_max=500_000, ring_changes_count=1 << 20
    )
    with pytest.raises(LimitError, match="memory_bytes_max"):
        Runtime(limits, backend=backend)


def test_sizes_grow_with_the_limits(backend):
    small, large = Limits.small(), msgspec.structs.replace(Limits.small(), links_count_max=1000, window_max=32)
    assert 0 < small.memory_bytes(BackendSizes(small, backend)) < large.memory_bytes(BackendSizes(large, backend))


def test_closing_calls_the_last_registered_first_and_each_once(backend):
    called: list[str] = []
    runtime = Runtime(Limits.small(), backend=backend, seed=1)
    runtime.on_close(lambda: called.append("first"))
    runtime.on_close(lambda: called.append("second"))
    with runtime:
        pass
    runtime.close()
    assert called == ["second", "first"]


def test_shell_is_there_only_where_the_backend_has_a_thread(backend):
    with Runtime(Limits.small(), backend=backend) as runtime:
        shell = runtime.make_shell()
        assert (shell is None) == (backend.BACKEND == "py")
        if shell is not None:
            shell.stop()


def test_same_seed_same_jitter(backend):
    def wake(seed: int) -> int:
        runtime = Runtime(Limits.small(), backend=backend, seed=seed)
        options = records.LinkOptions(10**9, 10**9, 10**9, 1, 1, 1, 3, 3, 260, 8, 6, 4, 0, 0, 2, 0, 2, b"\0\0")
        plan = records.Plan(1, b"", b"", b"", b"", b"", 1)
        events = [records.Event(records.EVENT_LINK, data=options), records.Event(records.EVENT_PLAN, data=plan)]
        runtime.scan.step(1, events)
        return runtime.scan.step(2, [records.Event(records.EVENT_FAILED)])[1]

    assert wake(7) == wake(7)
    assert len({wake(seed) for seed in range(10)}) > 1
