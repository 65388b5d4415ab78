"""Connectors: each brings records to one kind of destination, and does nothing else.

They keep `core.contracts.Connector`, which `bifrost.testing.check_connector` holds them to. `core.plugins` knows them
by URL scheme and imports them when they are used.
"""
