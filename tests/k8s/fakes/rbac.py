"""What the Roles of docs/kubectl.md allow."""

import functools
import re

import yaml

from tests.conftest import REPOSITORY
from tests.k8s.fakes.server import Request

# Every user may ask this, by the ClusterRole system:basic-user.
ASKING = "selfsubjectaccessreviews"


@functools.cache
def roles() -> dict[str, list[dict[str, list[str]]]]:
    """Name → rules."""
    text = (REPOSITORY / "docs/kubectl.md").read_text()
    documents = [
        item for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) for item in yaml.safe_load_all(block)
    ]
    return {item["metadata"]["name"]: item["rules"] for item in documents}


def allows(request: Request, *names: str) -> bool:
    """Whether one of these roles allows it, or any if none is named. Only a ClusterRole reaches beyond a namespace."""
    if request.resource == ASKING:
        return True
    chosen = names or tuple(roles())
    if not request.namespace:
        chosen = tuple(name for name in chosen if name == "catsdogs-cluster")
    return any(
        request.group in rule["apiGroups"] and request.resource in rule["resources"] and request.verb in rule["verbs"]
        for name in chosen
        for rule in roles()[name]
    )
