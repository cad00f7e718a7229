"""Puts ids of jobs, nodes and files that there are into a share of the requests that Schemathesis makes up."""

import json
import os
import random

import schemathesis

KNOWN = json.loads(os.environ["SANDRUN_KNOWN"])
FIELDS = {
    "node_id": "nodes",
    "job_id": "jobs",
    "job": "jobs",
    "attempt": "attempts",
    "sha256": "files",
    "path": "paths",
}


def chosen(value, kind):
    """A known value in the place of one that was made up, in three of four requests."""
    values = KNOWN[kind]
    # by what was made up: the same request again is the same
    luck = random.Random(repr(value))
    return luck.choice(values) if values and luck.random() < 0.75 else value


def filled(value):
    if isinstance(value, dict):
        put = lambda name, it: chosen(it, FIELDS[name]) if name in FIELDS else filled(it)
        return {name: put(name, it) for name, it in value.items()}
    if isinstance(value, list):
        return [filled(it) for it in value]
    return value


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    kind = "nodes" if context.operation.path.startswith("/v1/nodes") else "jobs"
    if context.operation.path.endswith("/stream"):
        # of a job that runs on it would last as long as that
        kind = "ended"
    put = lambda name, it: chosen(it, kind if name == "id" else FIELDS[name]) if name in {"id", *FIELDS} else it
    return {name: put(name, it) for name, it in path_parameters.items()}


@schemathesis.hook
def map_body(context, body):
    return filled(body)


@schemathesis.hook
def before_call(context, case, kwargs):
    # a claim of a node that there is would wait for work as long as it asks to
    try:
        case.query["wait"] = min(float(case.query["wait"]), 0.01)
    except (KeyError, TypeError, ValueError):
        pass
