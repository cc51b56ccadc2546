"""A further run's Job, made of a release's own: the chart stays the only description of it. Pure."""

import copy
import hashlib
import json
import re
from typing import NamedTuple

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.errors import Contradiction
from kubectl_catsdogs.submit.options import Settings, same

MANAGER = "kubectl-catsdogs"
"""In the label that names Helm in the chart's own Jobs, so that nobody takes these for a part of the release."""
MOST = 63
"""Characters of a Job's name, which is also a label's value."""
POD_LABELS = {contract.CONTROLLER_UID, contract.JOB_NAME, "controller-uid", "job-name"}
"""Of a live Job's template, by the Job controller."""
CHART_LABELS = {contract.MANAGED_BY, "helm.sh/chart"}
TOOLS = ("meta.helm.sh/", "helm.sh/", "kubectl.kubernetes.io/", "argocd.argoproj.io/", "batch.kubernetes.io/")
"""Prefixes of annotations by which others recognise what they have made."""
PATH_OF_RUN_ID = f"metadata.labels['{contract.JOB_NAME}']"


class Source(NamedTuple):
    """What a run is made of."""

    name: str
    """The Job's or CronJob's."""
    base: str
    """What names begin with: the chart's name for all of the release."""
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object
    """A Job's, as the chart wrote it."""
    own_run: bool
    """Whether it is itself a run, with its template's settings."""


def source_of(item: Object) -> Source:
    """Of a Job or CronJob as the API gives it. Raises Contradiction if it trains nothing."""
    name = name_of(item)
    if "jobTemplate" in item["spec"]:
        meta, spec = dig(item, "spec", "jobTemplate", "metadata", default={}), item["spec"]["jobTemplate"]["spec"]
        base = name
    else:
        meta, spec = item["metadata"], _written(item)
        base = re.sub("-[0-9a-f]{10}$", "", name)
    container = contract.container(spec["template"]["spec"])
    if "command" in container or (container.get("args") or [""])[0] != "run":
        raise Contradiction(f"{name} does not train: its container runs something else, as with diagnosticMode")
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(TOOLS) and key not in (contract.SPEC, contract.SET, contract.ORIGIN)
    }
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key not in CHART_LABELS}
    return Source(name, base, labels, annotations, spec, "jobTemplate" not in item["spec"])


def _written(job: Object) -> Object:
    """A Job's spec without what the API server and the Job controller have added."""
    if kept := dig(job, "metadata", "annotations", contract.SPEC):
        spec: Object = json.loads(kept)
        return spec
    spec = copy.deepcopy(job["spec"])
    spec.pop("selector", None)
    spec.pop("manualSelector", None)
    meta = spec["template"].setdefault("metadata", {})
    meta.pop("creationTimestamp", None)
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key not in POD_LABELS}
    return spec


def changes(source: Source, settings: Settings) -> Settings:
    """Those of the settings that differ from the source's template."""
    told = contract.options({"spec": source.spec})
    return {name: text for name, text in settings.items() if not same(name, told.get(name), text)}


def job_of(source: Source, settings: Settings, namespace: str, owner: Object | None = None) -> Object:
    """The Job of a run with these settings, ready to be created.

    Its name follows from the source's template and the changes. Its run id is its name, unless the settings have one.
    `owner` is a reference to the object with which it shall go.
    """
    changed = changes(source, settings)
    spec = copy.deepcopy(source.spec)
    _tell(contract.container(spec["template"]["spec"]), changed)
    # Kueue takes up what is suspended, and what the release's values suspend is to run now.
    spec.pop("suspend", None)
    if contract.QUEUE in source.labels:
        spec["suspend"] = True
    annotations = {
        contract.ORIGIN: source.name,
        contract.SET: " ".join(f"{name}={text}" for name, text in sorted(changed.items())),
    }
    metadata: Object = {
        "name": _name(source.base, spec),
        "namespace": namespace,
        "labels": {**source.labels, contract.MANAGED_BY: MANAGER},
        "annotations": {**source.annotations, **annotations, contract.SPEC: json.dumps(spec, sort_keys=True)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _name(base: str, spec: Object) -> str:
    """Ends in a hash of all that decides what the pods do, as the chart's own names do."""
    decisive = [spec["template"], spec.get("podFailurePolicy")]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:10]
    return f"{base.replace('.', '-')[: MOST - 11].rstrip('-')}-{digest}"


def _tell(container: Object, changed: Settings) -> None:
    """Puts the settings into the environment, and takes away what would win over them, or keep the old run id."""
    told = {"run_id": "", **changed}
    container["args"] = _without([str(arg) for arg in container["args"]], set(told))
    variables = {variable["name"]: variable for variable in (_variable(*setting) for setting in told.items())}
    entries = container.get("env") or []
    there = {entry["name"] for entry in entries}
    container["env"] = [variables.get(entry["name"], entry) for entry in entries]
    container["env"] += [variable for name, variable in variables.items() if name not in there]


def _variable(name: str, text: str) -> Object:
    variable = contract.PREFIX + name.upper()
    if name == "run_id" and not text:
        return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": PATH_OF_RUN_ID}}}
    return {"name": variable, "value": text}


def _without(args: list[str], names: set[str]) -> list[str]:
    """The arguments without these options, each of which takes a value: --name=value or --name value."""
    kept: list[str] = []
    value_follows = False
    for arg in args:
        if value_follows:
            value_follows = False
            continue
        name, equals, _ = arg.removeprefix("--").partition("=")
        if arg.startswith("--") and name.replace("-", "_") in names:
            value_follows = not equals
            continue
        kept.append(arg)
    return kept
