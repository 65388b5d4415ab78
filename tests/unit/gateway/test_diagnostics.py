"""Diagnostics as rows of the table: they fit into what the limits keep for them, and only changes are written.

The rest is seen by a client: `tests/interop/test_opcua_gateway.py` and `test_opcua_ledger.py`.
"""

from bifrost._native import records
from bifrost.core.config_rules import check_name
from bifrost.core.limits import _DIAGNOSTIC_CELL_BYTES, _DIAGNOSTICS_PER_DEVICE, _DIAGNOSTICS_PER_UPLINK
from bifrost.gateway.diagnostics import DEVICE_DIAGNOSTICS, GATEWAY_DIAGNOSTICS, UPLINK_DIAGNOSTICS

ALL = {
    DEVICE_DIAGNOSTICS: _DIAGNOSTICS_PER_DEVICE,
    GATEWAY_DIAGNOSTICS: _DIAGNOSTICS_PER_DEVICE,
    UPLINK_DIAGNOSTICS: _DIAGNOSTICS_PER_UPLINK,
}


def test_rows_and_texts_fit_into_what_the_limits_keep():
    for kinds, rows_count in ALL.items():
        assert len(kinds) <= rows_count
        texts = sum(kind.size for kind in kinds if kind.type == records.TYPE_STRING)
        assert texts <= rows_count * _DIAGNOSTIC_CELL_BYTES


def test_names_are_names_and_each_says_what_it_means():
    for kinds in ALL:
        names = [kind.name for kind in kinds]
        assert len(set(names)) == len(names)
        for kind in kinds:
            check_name(kind.name)
            assert kind.meaning.endswith(".")
