"""Several workers of one run: transport, rendezvous, worker group."""
