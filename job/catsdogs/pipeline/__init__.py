"""The job, top to bottom: prepare, train, publish; and the plan of what it would do."""
