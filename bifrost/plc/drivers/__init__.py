"""Drivers that are no protocol package of their own. Which drivers there are says `core.plugins`, by URL scheme."""

from __future__ import annotations

__all__: list[str] = []
