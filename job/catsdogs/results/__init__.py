"""A run's results: artifacts, manifest, publishing, tables, plots, the report page, and tracking."""
