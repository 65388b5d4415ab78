"""Diagnostics as rows of the table: they fit into what the limits keep for them, and only changes are written.

The rest is seen by a client: `tests/interop/test_opcua_gateway.py`.
"""

from bifrost._native import records
from bifrost.core.config_rules import check_name
from bifrost.core.limits import _DIAGNOSTIC_CELL_BYTES, _DIAGNOSTICS_PER_DEVICE
from bifrost.gateway.diagnostics import DEVICE_DIAGNOSTICS, GATEWAY_DIAGNOSTICS


def test_rows_and_texts_fit_into_what_the_limits_keep():
    for kinds in (DEVICE_DIAGNOSTICS, GATEWAY_DIAGNOSTICS):
        assert len(kinds) <= _DIAGNOSTICS_PER_DEVICE
        texts = sum(kind.size for kind in kinds if kind.type == records.TYPE_STRING)
        assert texts <= _DIAGNOSTICS_PER_DEVICE * _DIAGNOSTIC_CELL_BYTES


def test_names_are_names_and_each_says_what_it_means():
    for kinds in (DEVICE_DIAGNOSTICS, GATEWAY_DIAGNOSTICS):
        names = [kind.name for kind in kinds]
        assert len(set(names)) == len(names)
        for kind in kinds:
            check_name(kind.name)
            assert kind.meaning.endswith(".")
