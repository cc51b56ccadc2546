"""The process: exit codes, events and their sinks, signals, cores, memory, GPU driver. Imports none of the others.

Public: `errors.JobError` and its kinds, `errors.EXIT_CODES`; `events.Event` and its kinds; `log.Log` and its sinks,
`console.Terminal`; `formatting`; `signals.Interruption`; `cores.usable`; `memory.limit` and `require`; `gpu.require`.
"""
