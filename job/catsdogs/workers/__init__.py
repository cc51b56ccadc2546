"""Several workers of one run: transport, rendezvous, worker group.

`rendezvous.join` waits until all workers are connected, and returns the `group.WorkerGroup` in which they exchange
data, and end together. `group.SINGLE` is the group of a run with one worker. Imports no TensorFlow: its collectives
have connections of their own.
"""
