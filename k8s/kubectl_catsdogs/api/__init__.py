"""Talks to the API server: credentials, requests with retries, watches, and the arithmetic of quantities.

Public: `client.Cluster`, `watch.watch` with its messages, `resources`. No other package imports the Kubernetes client
or urllib3.
"""
