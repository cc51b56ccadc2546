"""The job's exit codes: what each means, whether a retry may help, and what to do about it.

Meaning and retry come from `exit_codes.json`, which is generated from the job's own table. Its schema is a list, in the
order of the codes, of

    {"code": 65, "meaning": "bad data: …", "retry_helps": false}

`retry_helps` is true, false, or null where the question does not arise (0). The advice is the plugin's own, as it names
values of the chart.
"""

import json
from importlib import resources
from typing import NamedTuple

ADVICE = {
    1: "the traceback is in the log; report it with the run's run.json",
    2: "correct extraArgs or extraEnv of the release",
    65: "check the values bucket and archive.key, or ask for fewer images per class",
    69: "check storage.endpoint from within the cluster (helm test), or the node's GPU driver",
    74: "raise volume.size, or free space on the volume",
    75: "nothing is lost: the next pod resumes the run",
    77: "correct the Secret of credentials.existingSecret; helm test checks its permissions",
    78: "correct the values that the line names",
}


class ExitCode(NamedTuple):
    meaning: str
    retry_helps: bool | None
    advice: str


def _load() -> dict[int, ExitCode]:
    entries = json.loads(resources.files(__package__).joinpath("exit_codes.json").read_text(encoding="utf-8"))
    return {
        entry["code"]: ExitCode(entry["meaning"], entry["retry_helps"], ADVICE.get(entry["code"], ""))
        for entry in entries
    }


EXIT_CODES = _load()
"""By exit code."""
