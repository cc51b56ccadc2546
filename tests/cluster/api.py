"""The API of any cluster that a kubeconfig leads to, as paths and JSON."""

import json
from pathlib import Path
from typing import Any

from kubernetes import config  # type: ignore[import-untyped,unused-ignore]

Object = dict[str, Any]


class PermissionDenied(Exception):
    """The API server's own words."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    def __init__(self, kubeconfig: Path):
        self._client = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call,unused-ignore]

    def __call__(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Raises PermissionDenied, and urllib3's HTTPError where no server answers."""
        place, _, query = path.partition("?")
        request = self._client.param_serialize(
            method,
            place,
            query_params=[tuple(pair.split("=", 1)) for pair in query.split("&") if pair],
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*request, _request_timeout=30)
        text = answer.read()
        if answer.status >= 400:
            raise PermissionDenied(answer.status, text.decode(errors="replace"))
        found: Object = json.loads(text)
        return found

    def get(self, path: str) -> Object:
        return self("GET", path)

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self("GET", path)["items"]
        return found

    def merge(self, path: str, body: Object) -> Object:
        return self("PATCH", path, body, "application/merge-patch+json")

    def find(self, path: str) -> Object | None:
        """None if there is no such object."""
        try:
            return self.get(path)
        except PermissionDenied as refused:
            if refused.status == 404:
                return None
            raise
