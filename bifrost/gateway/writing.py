"""Writes on their way from the one queue to a device: what must be known of a tag, and delivery with read-back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bifrost.core.columns import TagColumns
from bifrost.core.contracts import Write
from bifrost.core.errors import BifrostError, ClosedError, DeviceError
from bifrost.core.log import fields
from bifrost.core.status import StatusCode
from bifrost.core.table import TagTable
from bifrost.core.tag import Value
from bifrost.core.writes import WriteTarget
from bifrost.gateway.polling import Polled
from bifrost.gateway.values import wire_type
from bifrost.plc.scan import Scanner

__all__ = ["Delivery"]

_log = logging.getLogger("bifrost.gateway.writing")


class Delivery:
    """Knows the tags that can be written, and delivers values to their devices.

    Args:
        columns: All tags; their ids are rows of the table.
        table: For the value before the write.
        scanner: Sends the requests.
        devices: Where the rows belong.
    """

    def __init__(self, columns: TagColumns, table: TagTable, scanner: Scanner, devices: Sequence[Polled]) -> None:
        self._columns = columns
        self._table = table
        self._scanner = scanner
        self._by_name = {polled.config.name: polled for polled in devices}

    def replace(self, columns: TagColumns, devices: Sequence[Polled]) -> None:
        """Other tags and devices from now on; writes under way end with those they began with."""
        self._columns = columns
        self._by_name = {polled.config.name: polled for polled in devices}

    def target_of(self, tag_id: int) -> WriteTarget | None:
        """See `core.writes.WriteQueue`."""
        if not self._columns.has_id(tag_id):
            return None
        tag = self._columns[tag_id]
        polled = self._by_name[tag.device]
        return WriteTarget(
            name=tag.full_name,
            device=tag.device,
            spec=wire_type(polled.driver, tag),
            is_writable=tag.writable,
            scale=tag.scale,
            offset=tag.offset,
            range=tag.range,
            old=self._table.snapshot([tag_id])[0].value,
        )

    async def deliver(self, tag_id: int, value: Value) -> int:
        """Sends `value` to the tag's device and reads it back into the table; gives the StatusCode of the device's answer.

        The caller sets the time limit.

        Raises:
            AddressError: The address cannot be written.
            ValueError: The value does not fit.
            NoAnswerError: The device does not answer; after that nobody knows whether it has the value.
            ClosedError: It is not connected.
        """
        if not self._columns.has_id(tag_id):
            raise ClosedError("the tag is not configured any more")
        tag = self._columns[tag_id]
        polled = self._by_name[tag.device]
        if polled.device is None:
            raise ClosedError(f"{tag.device} is not polled at the moment")
        oneshot = polled.driver.compile_write(Write(tag, value))
        try:
            await self._scanner.execute(polled.device, oneshot)
        except DeviceError as error:
            return polled.driver.write_status(error.code)
        try:
            await self._scanner.poll_now(polled.device, tag_id)
        except (BifrostError, ValueError) as error:
            # The device took the value; the next scan shows it.
            _log.warning("read-back failed", extra=fields(tag=tag.full_name, error=error))
        return StatusCode.Good
