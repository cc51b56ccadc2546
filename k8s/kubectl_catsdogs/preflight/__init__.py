"""`kubectl catsdogs check`: whether the cluster has what a release requires, before it is installed.

Public: `checklist.check`, `requirements.requirements_of`. `checks` has one function per line of the list.
"""
