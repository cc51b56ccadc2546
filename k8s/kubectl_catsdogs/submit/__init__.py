"""What changes the cluster: `kubectl catsdogs submit` and `stop`.

Public: `submission.submit` and `submission.manifests`, `stopping.stop`. `job_options` has the job's options, `settings`
parses NAME=VALUE, `manifest` makes a Job of a release's own, `sweep` creates several.
"""
