"""The OPC UA port under a few seconds of the fuzzer, against the module in place, whose own assertions are on.

Under sanitizers and for longer it is `python -m tests.interop.fuzz_opcua SECONDS`.
The seed is fixed: a find must not depend on the day.
"""

from __future__ import annotations

import pytest

from tests.interop.fuzz_opcua import fuzz
from tests.interop.opcua_bench import compiled_only

pytestmark = [pytest.mark.interop, compiled_only]


def test_spoilt_sessions_neither_stop_nor_swell_the_server(tmp_path):
    assert fuzz(tmp_path, seconds=10.0, seed=20_261_122) > 100
