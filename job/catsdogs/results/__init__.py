"""A run's results: artifacts, manifest, publishing, tables, plots, the report page, and tracking.

- `names`, `documents`, `manifest`: the artifacts' names; run.json and metrics.json; the manifest and its check
- `artifacts`, `completion`: writes the artifacts on the volume; records that they are complete
- `publish`, `log_upload`: uploads them to the store; keeps the running job's log there
- `tables`, `plot`, `report`, `charts`, `tensorboard`: what the artifacts are written with
- `metrics`, `job_log`: statistics of predictions; what a log says about its run
- `tracking`: logs the run to MLflow
"""
