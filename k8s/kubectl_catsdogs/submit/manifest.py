"""Makes a further run's Job from a release's own, so that only the chart describes Jobs. Pure."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import ConfigError
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.submit.job_options import job_options
from kubectl_catsdogs.submit.settings import Settings, same

MANAGER = "kubectl-catsdogs"
"""The value of MANAGED_BY, where the chart's own Jobs have Helm: these are not part of the release."""
MAX_NAME = 63
"""Characters of a Job's name, which is also a label's value."""
POD_LABELS = {chart.CONTROLLER_UID, chart.JOB_NAME, "controller-uid", "job-name"}
"""Labels that the Job controller adds to a Job's template."""
CHART_LABELS = {chart.MANAGED_BY, "helm.sh/chart"}
TOOLS = ("meta.helm.sh/", "helm.sh/", "kubectl.kubernetes.io/", "argocd.argoproj.io/", "batch.kubernetes.io/")
"""Prefixes of annotations by which other tools recognise their own objects."""
PATH_OF_RUN_ID = f"metadata.labels['{chart.JOB_NAME}']"


class Source(NamedTuple):
    """The template of further runs."""

    name: str
    """The Job's or CronJob's."""
    base: str
    """Prefix of the names of runs: the chart's full name of the release."""
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object
    """A Job's spec, as the chart wrote it."""
    own_run: bool
    """Whether it is itself a run, rather than a CronJob."""


def source_of(item: Object) -> Source:
    """Return the template that a Job or CronJob contains. Raises ConfigError if it does not train."""
    name = name_of(item)
    if "jobTemplate" in item["spec"]:
        meta, spec = dig(item, "spec", "jobTemplate", "metadata", default={}), item["spec"]["jobTemplate"]["spec"]
        base = name
    else:
        meta, spec = item["metadata"], _written(item)
        base = re.sub("-[0-9a-f]{10}$", "", name)
    container = chart.container(spec["template"]["spec"])
    if "command" in container or (container.get("args") or [""])[0] != "run":
        raise ConfigError(f"{name} does not train: its container runs something else, as with diagnosticMode")
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(TOOLS) and key not in (chart.SPEC, chart.SET, chart.ORIGIN)
    }
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key not in CHART_LABELS}
    return Source(name, base, labels, annotations, spec, "jobTemplate" not in item["spec"])


def _written(job: Object) -> Object:
    """Return a Job's spec without what the API server and the Job controller have added."""
    kept = _kept(dig(job, "metadata", "annotations", chart.SPEC), job["spec"])
    if kept is not None:
        return kept
    spec: Object = copy.deepcopy(job["spec"])
    spec.pop("selector", None)
    spec.pop("manualSelector", None)
    meta = spec["template"].setdefault("metadata", {})
    meta.pop("creationTimestamp", None)
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key not in POD_LABELS}
    return spec


def _kept(annotation: object, live: Object) -> Object | None:
    """Return the spec in the annotation, completed from the Job's own; None if the annotation has none."""
    try:
        spec: Object = json.loads(str(annotation))
        _restore(spec, live)
        return spec if chart.container_of({"spec": spec}) else None
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None


def _restore(spec: Object, live: Object) -> None:
    """Put back into `spec` what `_redacted` leaves out, from the Job's own spec."""
    originals = dict(_containers(live))
    for place, container in _containers(spec):
        original = originals.get(place, {})
        for field in ("command", "args"):
            if field not in container and field in original:
                container[field] = copy.deepcopy(original[field])
        values = {entry["name"]: entry["value"] for entry in original.get("env") or [] if "value" in entry}
        for entry in container.get("env") or []:
            if "value" not in entry and "valueFrom" not in entry and entry["name"] in values:
                entry["value"] = values[entry["name"]]


def _redacted(spec: Object) -> Object:
    """Return the spec for the annotation: with the values of the job's own options, and of no other variable, and
    without the commands of other containers.

    An annotation is shown where a spec is not.
    """
    own = {chart.VARIABLE_PREFIX + name.upper() for name in job_options()}
    redacted = copy.deepcopy(spec)
    for (_, name), container in _containers(redacted):
        if name != chart.CONTAINER:
            container.pop("command", None)
            container.pop("args", None)
        for entry in container.get("env") or []:
            if entry["name"] not in own:
                entry.pop("value", None)
    return redacted


def _containers(spec: Object) -> Iterator[tuple[tuple[str, str], Object]]:
    """Yield all containers, each with its kind and name."""
    for kind in ("containers", "initContainers"):
        for container in dig(spec, "template", "spec", kind, default=[]):
            yield (kind, str(container.get("name"))), container


def changes(source: Source, settings: Settings) -> Settings:
    """Return the settings that differ from the template."""
    current = chart.options({"spec": source.spec})
    return {name: text for name, text in settings.items() if not same(name, current.get(name), text)}


def job_of(source: Source, settings: Settings, namespace: str, owner: Object | None = None) -> Object:
    """Return the Job of a run with these settings, ready to be created.

    Its name follows from the template and the changes. Its run id is its name, unless the settings contain one. `owner`
    is a reference to the object with which it is deleted.
    """
    changed = changes(source, settings)
    spec = copy.deepcopy(source.spec)
    _apply(chart.container(spec["template"]["spec"]), changed)
    # Kueue admits suspended Jobs; a Job that the release's values suspend is to run now.
    spec.pop("suspend", None)
    if chart.QUEUE in source.labels:
        spec["suspend"] = True
    annotations = {
        chart.ORIGIN: source.name,
        chart.SET: " ".join(f"{name}={text}" for name, text in sorted(changed.items())),
    }
    metadata: Object = {
        "name": _name(source.base, spec),
        "namespace": namespace,
        "labels": {**source.labels, chart.MANAGED_BY: MANAGER},
        "annotations": {**source.annotations, **annotations, chart.SPEC: json.dumps(_redacted(spec), sort_keys=True)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _name(base: str, spec: Object) -> str:
    """Return a name that ends in a hash of everything that decides what the pods do, as the chart's names do."""
    decisive = [spec["template"], spec.get("podFailurePolicy")]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:10]
    return f"{base.replace('.', '-')[: MAX_NAME - 11].rstrip('-')}-{digest}"


def _apply(container: Object, changed: Settings) -> None:
    """Write the settings into the environment, and remove arguments that would override them and the old run id."""
    settings = {"run_id": "", **changed}
    container["args"] = _without([str(arg) for arg in container["args"]], set(settings))
    variables = {variable["name"]: variable for variable in (_variable(*setting) for setting in settings.items())}
    entries = container.get("env") or []
    existing = {entry["name"] for entry in entries}
    container["env"] = [variables.get(entry["name"], entry) for entry in entries]
    container["env"] += [variable for name, variable in variables.items() if name not in existing]


def _variable(name: str, text: str) -> Object:
    variable = chart.VARIABLE_PREFIX + name.upper()
    if name == "run_id" and not text:
        return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": PATH_OF_RUN_ID}}}
    return {"name": variable, "value": text}


def _without(args: list[str], names: set[str]) -> list[str]:
    """Return the arguments without these options, each of which has a value: --name=value or --name value."""
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
