"""`kubectl catsdogs why`: why a run is pending, failing or waiting.

Public: `why.why`. It reads a `Snapshot`; `stages` decides which diagnoses apply, each of which returns a `Finding`.
"""
