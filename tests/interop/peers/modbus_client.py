"""A foreign Modbus client in a process of its own: asks every function of the server at a port, and prints what it got as JSON.

``python modbus_client.py pymodbus|pyModbusTCP PORT``. Unit 1 has 64 items in each table; input register n holds 1000 + n and
discrete input n is on where n is a multiple of 3.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def ask_with_pymodbus(port: int) -> dict[str, Any]:
    """Every function code of our server, by pymodbus."""
    from pymodbus.client import ModbusTcpClient

    client = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
    client.connect()
    found: dict[str, Any] = {
        "write_coil": client.write_coil(3, True).isError(),
        "write_coils": client.write_coils(10, [True, False, True]).isError(),
        "coils": client.read_coils(0, count=16).bits[:16],
        "discrete_inputs": client.read_discrete_inputs(0, count=9).bits[:9],
        "write_register": client.write_register(5, 0xABCD).isError(),
        "write_registers": client.write_registers(6, [1, 2, 65_535]).isError(),
        "mask_write": client.mask_write_register(address=5, and_mask=0x00FF, or_mask=0x1200).isError(),
        "holding_registers": client.read_holding_registers(5, count=4).registers,
        "input_registers": client.read_input_registers(60, count=4).registers,
        "read_write": client.readwrite_registers(
            read_address=7, read_count=2, write_address=8, values=[77], device_id=1
        ).registers,
        "illegal_address": client.read_holding_registers(60, count=5).exception_code,
        "illegal_function": client.read_exception_status().exception_code,
    }
    identification: Any = client.read_device_information(read_code=1, object_id=0)
    found["identification"] = {str(key): text.decode() for key, text in identification.information.items()}
    client.close()
    return found


def ask_with_pymodbustcp(port: int) -> dict[str, Any]:
    """Every function code of our server that pyModbusTCP has (it has no mask write: one of its own PDUs does it)."""
    from pyModbusTCP.client import ModbusClient

    client = ModbusClient(host="127.0.0.1", port=port, unit_id=1, timeout=5)
    found: dict[str, Any] = {
        "write_coil": not client.write_single_coil(3, True),
        "write_coils": not client.write_multiple_coils(10, [True, False, True]),
        "coils": client.read_coils(0, 16),
        "discrete_inputs": client.read_discrete_inputs(0, 9),
        "write_register": not client.write_single_register(5, 0xABCD),
        "write_registers": not client.write_multiple_registers(6, [1, 2, 65_535]),
        "mask_write": client.custom_request(bytes.fromhex("16 00 05 00 FF 12 00")) is None,
        "holding_registers": client.read_holding_registers(5, 4),
        "input_registers": client.read_input_registers(60, 4),
        "read_write": client.write_read_multiple_registers(8, [77], 7, 2),
    }
    client.read_holding_registers(60, 5)
    found["illegal_address"] = client.last_except
    client.custom_request(b"\x07")
    found["illegal_function"] = client.last_except
    answer = client.read_device_identification()
    found["identification"] = (
        {str(key): text.decode() for key, text in answer.objects_by_id.items()} if answer else None
    )
    client.close()
    return found


def main() -> None:
    """Asks, and prints one line of JSON."""
    ask = {"pymodbus": ask_with_pymodbus, "pyModbusTCP": ask_with_pymodbustcp}[sys.argv[1]]
    print(json.dumps(ask(int(sys.argv[2]))))


if __name__ == "__main__":
    main()
