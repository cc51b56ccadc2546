"""Runs as the cluster shows them: a release's Jobs, their state and outcome, their log, and events about them.

Public: `releases`, `state`, `outcome`, `job_log` (the log's lines as events), `progress`, `log_stream` (reads a pod's
log without gaps), `cluster_events`.
"""
