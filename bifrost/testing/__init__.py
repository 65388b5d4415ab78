"""For authors of plug-ins: the checks that Bifrost's own drivers and connectors pass too."""

from __future__ import annotations

from bifrost.testing.connectors import check_connector

__all__ = ["check_connector"]
