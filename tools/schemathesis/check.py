"""Holds broker and coordinator to their OpenAPI documents with Schemathesis: no 5xx, no answer that the document does not
name by status, content type, headers and schema. Each runs with jobs in every state, whose ids go into a share of the
requests (hooks.py): what is made up alone gets no further than 404.

usage: check.py BINARY [EXAMPLES_PER_CALL] [SEED]
"""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


class Service:
    """One of the binary's services, in a home of its own."""

    def __init__(self, binary, folder, name, *args):
        home = folder / name
        home.mkdir()
        self.log = folder / f"{name}.log"
        env = dict(os.environ, SANDRUN_HOME=str(home), SANDRUN_CONFIG="/dev/null", RUST_LOG="error")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, *args], env=env, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self.process.stdout.readline()
        found = re.match(r"listening on (\S+)", line)
        if not found:
            raise SystemExit(f"{name} did not start: {line}{self.log.read_text()}")
        self.url = found[1]

    def call(self, method, path, body=None):
        """A call with a JSON answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.load(answer)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "SIGKILL"
        said = self.log.read_text(errors="replace")
        return [f"{self.log.stem} ended with {code}"] * (code != 0) + [
            f"{self.log.stem}: {line}" for line in said.splitlines() if "panicked" in line
        ]


def broker_life(broker):
    """Jobs in every state, at nodes that live as long as the run."""
    nodes = [
        broker.call("POST", "/register", {"endpoint": f"http://node-{number}", "protocol": 2, "slots": 64})["node_id"]
        for number in range(3)
    ]
    node = nodes[0]

    def claimed(body):
        job = broker.call("POST", "/submit", body)["job_id"]
        work = broker.call("POST", "/claim?wait=20", {"node_id": node, "max": 1})["jobs"][0]
        assert work["id"] == job, work
        return job

    jobs, files, paths = [], [], []
    for code in (0, 1):
        job = claimed({"code": "print(1)"})
        file = broker.call("PUT", f"/v1/work/{job}/1/outputs/out/a.txt", b"result")
        answer = {"node_id": node, "job_id": job, "attempt": 1, "exit_code": code, "output": "1\n", "outputs": [file]}
        answer["receipt"] = base64.b64encode(b"{}").decode()
        broker.call("POST", "/complete", answer)
        jobs.append(job)
        files.append(file["sha256"])
        paths.append(file["path"])
    jobs.append(claimed({"code": "print(1)", "timeout": 600}))
    broker.call("POST", f"/v1/work/{jobs[-1]}/1/logs", {"node_id": node, "stdout": {"from": 0, "text": "so far\n"}})
    job = claimed({"code": "print(1)"})
    broker.call("POST", f"/v1/work/{job}/1/fail", {"node_id": node, "reason": "refused", "retry": False})
    jobs.append(job)
    jobs.append(broker.call("POST", "/submit", {"code": "x", "requirements": {"labels": {"nobody": "has it"}}})["job_id"])
    job = broker.call("POST", "/submit", {"code": "x", "after": [{"job": jobs[-1]}]})["job_id"]
    jobs.append(job)
    return {"jobs": jobs, "ended": jobs[:2], "nodes": nodes, "files": files, "paths": paths, "attempts": [1, 2]}


def coordinator_life(coordinator):
    """A job that left a file, one that failed, one that waits for what nobody has."""
    jobs = []
    code = "open('out.txt', 'w').write('result')"
    for body in (
        {"code": code, "outputs": ["out.txt"]},
        {"code": "raise SystemExit(3)"},
        {"code": "x", "timeout": 600, "priority": 9},
    ):
        jobs.append(coordinator.call("POST", "/submit", body)["job_id"])
    for job in jobs:
        until = time.monotonic() + 60
        while coordinator.call("GET", f"/v1/jobs/{job}")["status"] not in ("completed", "failed"):
            if time.monotonic() > until:
                raise SystemExit(f"job {job} does not end")
            time.sleep(0.05)
    jobs.append(coordinator.call("POST", "/submit", {"code": "x", "requirements": {"labels": {"nobody": "has it"}}})["job_id"])
    nodes = [it["id"] for it in coordinator.call("GET", "/v1/nodes")["nodes"]]
    return {"jobs": jobs, "ended": jobs[:3], "nodes": nodes, "files": [], "paths": ["out.txt"], "attempts": [1]}


def check(service, known, examples, seed):
    """Runs Schemathesis; whether all was well."""
    program = Path(sys.executable).with_name("schemathesis")
    env = dict(os.environ, SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=str(HERE), SANDRUN_KNOWN=json.dumps(known))
    command = [program, "run", f"{service.url}/openapi.json", "--checks", CHECKS, "--max-examples", str(examples)]
    # one worker: Python 3.11 parses lambdas wrongly in two threads at once
    command += ["--continue-on-failure", "--workers", "1", "--request-timeout", "90", "--warnings", "off"]
    command += ["--seed", str(seed), "--no-color", "--suppress-health-check", "all"]
    return subprocess.run(command, env=env, cwd=service.log.parent).returncode == 0


def main():
    binary = str(Path(sys.argv[1]).resolve())
    examples = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    # to end is to end what was started, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wrong, services = [], []
    with tempfile.TemporaryDirectory(prefix="sandrun-api-") as name:
        folder = Path(name)

        def start(*args):
            services.append(Service(binary, folder, args[0], *args))
            return services[-1]

        try:
            broker = start("broker", "--port", "0", "--node-timeout", "86400", "--job-timeout", "3600")
            key = folder / "worker.pem"
            made = subprocess.run(
                [binary, "sandrun", "--generate-key", str(key)], capture_output=True, text=True, check=True
            )
            worker = re.search(r"Worker ID: (\S+)", made.stdout)[1]
            executor = start("sandrun", "--port", "0", "--no-quota", "--worker-key", str(key))
            entry = {"worker_id": worker, "endpoint": executor.url, "max_concurrent_jobs": 4}
            (folder / "workers.json").write_text(json.dumps([entry]))
            coordinator = start("coordinator", "--port", "0", "--workers", "workers.json")
            for service, life in ((broker, broker_life), (coordinator, coordinator_life)):
                if not check(service, life(service), examples, seed):
                    wrong.append(f"{service.log.stem} breaks its document")
        except urllib.error.HTTPError as error:
            wrong.append(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
        finally:
            for service in reversed(services):
                wrong += service.end()
    for line in wrong:
        print(f"api-check: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
