"""The process: errors and exit codes, events, signals, cores and memory. Imports no other package of the job."""
