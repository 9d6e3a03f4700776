"""Where this process was put: a container, a pod, a batch job; read from files and variables."""

import os
from collections.abc import Iterable, Mapping

# Field of the manifest ← environment variables, the first that is set wins.
_SLURM = {
    "job_id": ("SLURM_JOB_ID", "SLURM_JOBID"),
    "job_name": ("SLURM_JOB_NAME",),
    "array_job_id": ("SLURM_ARRAY_JOB_ID",),
    "array_task_id": ("SLURM_ARRAY_TASK_ID",),
    "step_id": ("SLURM_STEP_ID",),
    "proc_id": ("SLURM_PROCID",),
    "node": ("SLURMD_NODENAME",),
    "node_list": ("SLURM_JOB_NODELIST", "SLURM_NODELIST"),
    "partition": ("SLURM_JOB_PARTITION",),
    "cluster": ("SLURM_CLUSTER_NAME",),
    "restart_count": ("SLURM_RESTART_COUNT",),
}
_PBS = {
    "job_id": ("PBS_JOBID",),
    "job_name": ("PBS_JOBNAME",),
    "array_task_id": ("PBS_ARRAY_INDEX", "PBS_ARRAYID"),
    "queue": ("PBS_QUEUE",),
}
_LSF = {
    "job_id": ("LSB_JOBID",),
    "job_name": ("LSB_JOBNAME",),
    "array_task_id": ("LSB_JOBINDEX",),
    "queue": ("LSB_QUEUE",),
}
# The downward API has no fixed names; these are the ones that its guides use.
_KUBERNETES = {
    "namespace": ("POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_NAMESPACE", "K8S_POD_NAMESPACE"),
    "pod": ("POD_NAME", "MY_POD_NAME", "K8S_POD_NAME", "HOSTNAME"),
    "pod_uid": ("POD_UID", "MY_POD_UID", "K8S_POD_UID"),
    "node": ("NODE_NAME", "MY_NODE_NAME", "K8S_NODE_NAME"),
    "job": ("K8S_JOB_NAME", "KUBERNETES_JOB_NAME"),
    "job_completion_index": ("JOB_COMPLETION_INDEX",),
}


def slurm(env: Mapping[str, str]) -> dict[str, str]:
    """Read what Slurm tells its jobs.

    Args:
        env: The environment variables.

    Returns:
        ``job_id`` and what else is set; empty outside a job.
    """
    facts = _named(env, _SLURM)
    return facts if "job_id" in facts else {}


def batch(env: Mapping[str, str]) -> dict[str, str]:
    """Read what PBS or LSF tells its jobs.

    Args:
        env: The environment variables.

    Returns:
        ``system`` (``pbs`` or ``lsf``), ``job_id`` and what else is set; empty outside both.
    """
    if env.get("PBS_JOBID"):
        return {"system": "pbs", **_named(env, _PBS)}
    if env.get("LSB_JOBID"):
        facts = _named(env, _LSF)
        if facts.get("array_task_id") == "0":  # LSF's way to say: not an array
            del facts["array_task_id"]
        return {"system": "lsf", **facts}
    return {}


def kubernetes(env: Mapping[str, str], root: str = "/") -> dict[str, str]:
    """Read what a pod knows of itself.

    Args:
        env: The environment variables.
        root: Folder that stands for ``/``.

    Returns:
        ``namespace``, ``pod`` and what else is set; empty outside a cluster.
    """
    if not env.get("KUBERNETES_SERVICE_HOST"):
        return {}
    facts = _named(env, _KUBERNETES)
    if "namespace" not in facts:
        namespace = _read(root, "var/run/secrets/kubernetes.io/serviceaccount/namespace").strip()
        facts = {"namespace": namespace, **facts} if namespace else facts
    return facts


def container(env: Mapping[str, str], root: str = "/") -> dict[str, str]:
    """Find out which container this process runs in.

    Args:
        env: The environment variables.
        root: Folder that stands for ``/``.

    Returns:
        ``runtime``, ``id`` and ``image``, as far as the inside of a container tells; empty outside one.
    """
    facts: dict[str, str] = {}
    apptainer = env.get("APPTAINER_CONTAINER") or env.get("SINGULARITY_CONTAINER")
    podman = os.path.join(root, "run/.containerenv")
    if os.path.exists(podman):
        pairs = (line.partition("=") for line in _read(root, "run/.containerenv").splitlines())
        said = {key: value.strip('"') for key, _, value in pairs}
        facts = {"runtime": "podman", "id": said.get("id", ""), "image": said.get("image", "")}
    elif os.path.exists(os.path.join(root, ".dockerenv")):
        facts = {"runtime": "docker"}
    elif apptainer:
        facts = {"runtime": "apptainer", "image": apptainer}
    elif env.get("container"):
        facts = {"runtime": env["container"]}
    if not facts.get("id"):
        facts["id"] = _container_id(_read(root, "proc/self/cgroup"))
    if any(facts.values()):
        # With a cgroup namespace of its own the container's name remains in the files mounted into it.
        mounts = (line for line in _read(root, "proc/self/mountinfo").splitlines() if "/containers/" in line)
        facts["id"] = facts["id"] or _container_id(" ".join(mounts))
        facts["image"] = facts.get("image") or env.get("CONTAINER_IMAGE", "")
    return {key: value for key, value in facts.items() if value}


def _container_id(text: str) -> str:
    for part in text.replace("\n", "/").replace(" ", "/").split("/"):
        name = part.removesuffix(".scope").rpartition("-")[2].rpartition(":")[2]
        if len(name) == 64 and not name.strip("0123456789abcdef"):
            return name
    return ""


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _named(env: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    found = {field: next((env[v] for v in variables if env.get(v)), "") for field, variables in names.items()}
    return {field: value for field, value in found.items() if value}
