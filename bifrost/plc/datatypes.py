"""`Tag` and `DataType` under the import path of the specification; they live in `core`."""

from __future__ import annotations

from bifrost.core.datatypes import ByteOrder, DataType
from bifrost.core.tag import DataPoint, Tag

__all__ = ["ByteOrder", "DataPoint", "DataType", "Tag"]
