"""Facts and helpers without I/O: the names shared with the chart, exit codes, errors, durations, text.

Public: `objects`, `chart`, `exit_codes`, `errors`, `duration`, `text`. Imports no other package of the plugin.
"""
