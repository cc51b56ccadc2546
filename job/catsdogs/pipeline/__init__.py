"""The job, top to bottom: prepare, train, publish; and the plan of what it would do.

`workflow.run`, `workflow.prepare`, `workflow.train` and `workflow.publish_trained` are the commands; `plan.plan` only
looks. `session` holds what one start of a run has open, `records` what the run's folder on the volume says about it.
"""
