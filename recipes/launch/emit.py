"""The same job for others to run: a SkyPilot task, a GKE JobSet.

Fields after docs.skypilot.co/en/latest/reference/yaml-spec.html and sky/utils/schemas.py of skypilot-org/skypilot, and
api/jobset/v1alpha2/jobset_types.go of kubernetes-sigs/jobset.
"""

import shlex
from typing import Any

from recipes import recipe
from recipes.launch import scripts
from recipes.launch.job import Job


def skypilot(job: Job, zone: str, uv: str, jax: str) -> dict[str, Any]:
    """A task for `sky jobs launch`, begun in the checkout.

    A slice is one node to SkyPilot, which runs `setup` and `run` on every host of it.
    """
    resources: dict[str, Any] = {
        "infra": f"gcp/{zone.rpartition('-')[0]}/{zone}",
        "accelerators": f"tpu-{job.on.type}:1",
        "accelerator_args": {"tpu_vm": True, "runtime_version": job.runtime},
        "use_spot": job.spot,
        "job_recovery": {"max_restarts_on_errors": job.retries, "recover_on_exit_codes": [recipe.PREEMPTED]},
    }
    uv_pip = "~/uv/bin/uv pip install --quiet --python .venv/bin/python"
    setup = (
        f"python3 -m pip install --quiet --target ~/uv {shlex.quote('uv==' + uv)}",
        f"~/uv/bin/uv venv --quiet --python {scripts.PYTHON} .venv",
        f"{uv_pip} --no-deps -r requirements.txt",
        f"{uv_pip} -c requirements.txt {shlex.quote('jax[tpu]==' + jax)}",
    )
    return {
        "name": job.name,
        "workdir": ".",
        "num_nodes": 1,
        "resources": resources,
        "setup": "set -e\n" + "\n".join(setup) + "\n",
        "run": shlex.join(job.run()) + "\n",
    }


def jobset(job: Job, image: str) -> dict[str, Any]:
    """A JobSet for GKE: one pod a host, begun again together; a mistake (exit code 2) ends it.

    Args:
      job: what to run.
      image: a container image whose working directory is the checkout, with the lock and jax[tpu] in its python.
    """
    container = {
        "name": "baton",
        "image": image,
        "command": job.run(python="python"),
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
        "resources": {"limits": {"google.com/tpu": job.on.chips // job.on.hosts}},
    }
    selector = {
        "cloud.google.com/gke-tpu-accelerator": job.on.accelerator,
        "cloud.google.com/gke-tpu-topology": job.on.topology,
        **({"cloud.google.com/gke-spot": "true"} if job.spot else {}),
    }
    refused = {"containerName": "baton", "operator": "In", "values": [recipe.MISTAKE]}
    pods = {
        "parallelism": job.on.hosts,
        "completions": job.on.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": refused}]},
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 120,
                "nodeSelector": selector,
                "containers": [container],
            }
        },
    }
    rules = [{"name": "mistake", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": job.retries, "restartStrategy": "BlockingRecreate", "rules": rules},
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": pods}}],
        },
    }


def text(of: dict[str, Any]) -> str:
    """A task or manifest as YAML, its scripts as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Lines stay lines."""

    def block(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    return yaml.dump(of, Dumper=Dumper, sort_keys=False, width=1000)
