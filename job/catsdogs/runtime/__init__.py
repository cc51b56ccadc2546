"""The process: errors and exit codes, events and their sinks, signals, cores, memory and GPU driver. Imports no other package.

Public: `errors.JobError` and its kinds, `errors.EXIT_CODES`; `events.Event` and its kinds; `log.Log` and its sinks,
`console.Terminal`; `formatting`; `signals.Interruption`; `cores.usable`; `memory.limit` and `require`; `gpu.require`.
"""
