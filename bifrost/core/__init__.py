"""What every part of Bifrost shares: tags and their columns, the table, limits, configuration, errors, clock, plug-ins.

Import from the modules; this package imports nothing by itself, so that a program pays only for what it uses.
"""
