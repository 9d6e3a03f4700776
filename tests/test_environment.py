"""What a manifest says about its process is true, cheap to find out, and found without leaving a trace."""

import functools
import hashlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import textwrap

import pytest

from otel_stage import _environment
from otel_stage._environment import _git, _placement, code_identity, quick_facts, script_identity
from otel_stage._environment._packages import packages_sha256

posix = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX processes")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
ID = "0123456789abcdef" * 4


def python(code, *arguments, cwd, **env):
    """Run code in a process of its own and read the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def git(folder, *words):
    """Run git as somebody whose configuration is not ours."""
    return subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *words],
        cwd=folder,
        capture_output=True,
        check=True,
    ).stdout


@pytest.fixture
def repository(tmp_path):
    """Make a repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "code.py").write_text("print(1)\n")
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def contents(folder):
    """Fingerprint every file below, the repository's own included."""
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_quick_facts_are_true(tmp_path, monkeypatch):
    """Host, process, interpreter and folder are those of this process."""
    monkeypatch.chdir(tmp_path)
    facts = quick_facts()
    assert facts["pid"] == os.getpid()
    assert facts["host"].split(".")[0].lower() == socket.gethostname().split(".")[0].lower()
    assert facts["python"] == sys.version.split()[0]
    assert facts["cwd"] == os.getcwd()
    assert facts["platform"]
    json.dumps(facts)


def test_quick_facts_are_the_callers_own():
    """Changing what was returned changes nobody else's facts."""
    quick_facts()["host"] = "elsewhere"
    assert quick_facts()["host"] != "elsewhere"


def test_arguments_are_masked(tmp_path):
    """A password on the command line does not get into the facts."""
    pytest.importorskip("otel_stage.redact")
    code = """
        import json
        from otel_stage._environment import quick_facts
        print(json.dumps(quick_facts()["argv"]))
    """
    argv = python(code, "--password", "hunter2hunter2", "plain", cwd=tmp_path)
    assert argv[0] == "-c"
    assert "plain" in argv
    assert "hunter2" not in " ".join(argv)


@posix
def test_a_forked_process_has_its_own_pid(tmp_path):
    """After a fork the pid is the child's."""
    code = """
        import os
        from otel_stage._environment import quick_facts
        quick_facts()
        if not (child := os.fork()):
            os._exit(0 if quick_facts()["pid"] == os.getpid() else 1)
        print(os.waitpid(child, 0)[1] + (quick_facts()["pid"] != os.getpid()))
    """
    assert python(code, cwd=tmp_path) == 0


@posix
def test_a_folder_that_is_gone_is_absent(tmp_path):
    """A process whose folder was removed has no cwd, and no error."""
    code = """
        import json, os
        from otel_stage._environment import quick_facts, start_slow_facts
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        start_slow_facts()
        print(json.dumps("cwd" in quick_facts()))
    """
    assert python(code, cwd=tmp_path) is False


def test_what_cannot_be_printed_is_escaped(tmp_path):
    """Bytes that are not UTF-8 in an argument can still be written as JSON in UTF-8."""
    pytest.importorskip("otel_stage.redact")
    code = """
        import json, sys
        sys.argv.append("x\\udcff")
        from otel_stage._environment import quick_facts
        print(json.dumps(quick_facts()["argv"][-1].encode().decode()))
    """
    assert python(code, cwd=tmp_path) == "x\\udcff"


@pytest.mark.parametrize(
    ("function", "env", "facts"),
    [
        (_placement.slurm, {}, {}),
        (_placement.slurm, {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTER_NAME": "c"}, {}),
        (
            _placement.slurm,
            {
                "SLURM_JOB_ID": "7",
                "SLURM_JOB_NAME": "asr",
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_JOB_NODELIST": "n[1-2]",
            },
            {"job_id": "7", "job_name": "asr", "array_task_id": "3", "node_list": "n[1-2]"},
        ),
        (_placement.slurm, {"SLURM_JOBID": "8", "SLURM_JOB_NAME": ""}, {"job_id": "8"}),
        (_placement.batch, {}, {}),
        (
            _placement.batch,
            {"PBS_JOBID": "1.s", "PBS_QUEUE": "q"},
            {"system": "pbs", "job_id": "1.s", "queue": "q"},
        ),
        (_placement.batch, {"LSB_JOBID": "9", "LSB_JOBINDEX": "0"}, {"system": "lsf", "job_id": "9"}),
        (
            _placement.batch,
            {"LSB_JOBID": "9", "LSB_JOBINDEX": "4"},
            {"system": "lsf", "job_id": "9", "array_task_id": "4"},
        ),
        (_placement.kubernetes, {"HOSTNAME": "box"}, {}),
        (
            _placement.kubernetes,
            {
                "KUBERNETES_SERVICE_HOST": "10.0.0.1",
                "POD_NAMESPACE": "lab",
                "HOSTNAME": "asr-x",
                "NODE_NAME": "n1",
            },
            {"namespace": "lab", "pod": "asr-x", "node": "n1"},
        ),
    ],
)
def test_batch_systems_tell_by_variables(function, env, facts):
    """What a scheduler sets is found, and a workstation is none of them."""
    assert function(env) == facts


def test_a_pod_reads_its_namespace(tmp_path):
    """Without the downward API the service account's file names the namespace."""
    account = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    (account / "namespace").write_text("lab\n")
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "asr-x"}
    assert _placement.kubernetes(env, str(tmp_path)) == {"namespace": "lab", "pod": "asr-x"}


@pytest.mark.parametrize(
    ("files", "env", "facts"),
    [
        ({}, {}, {}),
        ({"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-1.scope\n"}, {}, {}),
        ({".dockerenv": "", "proc/self/cgroup": "0::/\n"}, {}, {"runtime": "docker"}),
        (
            {
                ".dockerenv": "",
                "proc/self/cgroup": "0::/\n",
                "proc/self/mountinfo": f"1 2 0:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n",
            },
            {"CONTAINER_IMAGE": "lab/asr:3"},
            {"runtime": "docker", "id": ID, "image": "lab/asr:3"},
        ),
        (
            {".dockerenv": "", "proc/self/cgroup": f"4:memory:/docker/{ID}\n"},
            {},
            {"runtime": "docker", "id": ID},
        ),
        ({"proc/self/cgroup": f"0::/kubepods.slice/a.slice/cri-containerd-{ID}.scope\n"}, {}, {"id": ID}),
        ({"proc/self/cgroup": f"0::/system.slice/k.slice:cri-containerd:{ID}\n"}, {}, {"id": ID}),
        (
            {"run/.containerenv": f'engine="podman-4.3"\nname="x"\nid="{ID}"\nimage="docker.io/lab/asr:3"\n'},
            {},
            {"runtime": "podman", "id": ID, "image": "docker.io/lab/asr:3"},
        ),
        ({"run/.containerenv": ""}, {}, {"runtime": "podman"}),
        ({}, {"APPTAINER_CONTAINER": "/img/asr.sif"}, {"runtime": "apptainer", "image": "/img/asr.sif"}),
        ({}, {"container": "lxc"}, {"runtime": "lxc"}),
    ],
)
def test_containers_are_recognised(tmp_path, files, env, facts):
    """Each runtime's own marks are read, and a host is no container."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _placement.container(env, str(tmp_path)) == facts


@needs_git
def test_git_tells_commit_and_changes(repository):
    """A clean tree, untracked files and a change are told apart, and the hash can be repeated by hand."""
    head = git(repository, "rev-parse", "HEAD").decode().strip()
    clean = {"commit": head, "branch": "main", "dirty": False, "untracked": 0}
    assert _git.describe(str(repository)) == clean
    (repository / "out").mkdir()
    for name in ("a", "b", "END", "\n1 x"):
        (repository / "out" / name).touch()
    (repository / "ignored").touch()
    assert _git.describe(str(repository / "out")) == {**clean, "untracked": 1}
    (repository / "code.py").write_text("print(2)\n")
    by_hand = git(
        repository, "diff-index", "-p", "--full-index", "--no-ext-diff", "--no-textconv", "HEAD", "--"
    )
    assert _git.describe(str(repository)) == {
        **clean,
        "dirty": True,
        "untracked": 1,
        "diff_sha256": hashlib.sha256(by_hand).hexdigest(),
    }
    git(repository, "checkout", "-q", "--detach")
    assert "branch" not in _git.describe(str(repository))


@needs_git
def test_git_hashes_a_large_diff(repository):
    """A diff of megabytes, with zero bytes and OKs in it, is hashed whole."""
    (repository / "data.txt").write_text("x\n")
    (repository / "data.bin").write_bytes(b"\0x")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "data")
    (repository / "data.txt").write_text("END OK\n" * 300_000)
    (repository / "data.bin").write_bytes(b"\0y")
    by_hand = git(
        repository, "diff-index", "-p", "--full-index", "--no-ext-diff", "--no-textconv", "HEAD", "--"
    )
    assert _git.describe(str(repository))["diff_sha256"] == hashlib.sha256(by_hand).hexdigest()


@needs_git
def test_git_leaves_the_repository_alone(repository):
    """Nothing is written or run there: no index refresh, no hook, no fsmonitor, no external or textual diff."""
    trap = repository.parent / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository.parent}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "diff.t.textconv", "diff.t.command", "core.pager"):
        git(repository, "config", key, str(trap))
    for hook in ("post-index-change", "post-checkout"):
        shutil.copy(trap, repository / ".git/hooks" / hook)
    (repository / ".git/info/attributes").write_text("*.py diff=t\n")
    (repository / "code.py").write_text("print(2)\n")
    os.utime(repository / ".gitignore", (1, 1))  # the index would be refreshed for this one
    before = contents(repository)
    facts = _git.describe(str(repository))
    assert contents(repository) == before
    assert not (repository.parent / "sprung").exists()
    assert facts["dirty"]
    assert "diff_sha256" in facts


@needs_git
def test_git_ignores_the_configuration_of_the_reader(repository, monkeypatch):
    """The hash is the same whatever the user likes diffs to look like, and variables of another git are not ours."""
    (repository / "code.py").write_text("print(2)\n")
    plain = _git.describe(str(repository))
    for key, value in {
        "diff.noprefix": "true",
        "diff.context": "0",
        "color.ui": "always",
        "diff.algorithm": "patience",
        "diff.mnemonicPrefix": "true",
        "core.abbrev": "5",
    }.items():
        git(repository, "config", key, value)
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert _git.describe(str(repository)) == plain


@needs_git
def test_git_without_a_commit(tmp_path):
    """A repository without a commit has a branch and no commit."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a").touch()
    assert _git.describe(str(tmp_path)) == {"branch": "main", "dirty": False, "untracked": 1}


def test_no_repository_is_absent(tmp_path, monkeypatch):
    """A folder outside any repository, a broken repository and a machine without git have no facts."""
    assert _git.describe(str(tmp_path)) is None
    (tmp_path / ".git").mkdir()
    assert _git.describe(str(tmp_path)) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _git.describe(str(tmp_path)) is None


@posix
def test_a_slow_git_is_ended(repository, monkeypatch):
    """When time is up git and its children are killed, and what was said before still counts."""
    slow = repository.parent / "bin"
    slow.mkdir()
    (slow / "git").write_text(
        '#!/bin/sh\ncase "$*" in *rev-parse*) echo c0ffee;; *) exec 3>"$ALIVE"; sleep 60;; esac\n'
    )
    (slow / "git").chmod(0o755)
    alive = repository.parent / "alive"
    os.mkfifo(alive)
    monkeypatch.setenv("ALIVE", str(alive))
    monkeypatch.setenv("PATH", f"{slow}{os.pathsep}{os.environ['PATH']}")
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    assert _git.describe(str(repository), seconds=0.5) == {"commit": "c0ffee"}
    ended = select.poll()
    ended.register(reader, select.POLLIN)
    assert ended.poll(20_000), "git is still running"
    assert os.read(reader, 1) == b""
    os.close(reader)


@posix
@needs_git
def test_git_is_nobodys_child(repository):
    """The application is left without a child to wait for."""
    code = """
        import json, os
        from otel_stage._environment import slow_facts, start_slow_facts
        start_slow_facts()
        facts = slow_facts(30)
        try:
            left = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            left = None
        print(json.dumps([facts, left]))
    """
    facts, left = python(code, cwd=repository)
    assert facts["git"]["branch"] == "main"
    assert facts["packages_sha256"]
    assert left is None


@needs_git
def test_the_script_names_the_repository(repository, tmp_path):
    """The repository is that of the main script, and of the current folder where the script has none."""
    script = """
        import json
        from otel_stage._environment import script_identity, slow_facts, start_slow_facts
        start_slow_facts()
        print(json.dumps([slow_facts(30).get("git"), script_identity()]))
    """

    def run(path, cwd):
        path.write_text(textwrap.dedent(script))
        done = subprocess.run(
            [sys.executable, str(path)], cwd=cwd, capture_output=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    inside, identity = run(repository / "main.py", tmp_path)
    assert inside["untracked"] == 1
    digest = hashlib.sha256((repository / "main.py").read_bytes()).hexdigest()
    assert identity == {
        "kind": "script",
        "path": os.path.realpath(repository / "main.py"),
        "value": f"sha256:{digest}",
    }
    assert run(tmp_path / "main.py", repository)[0]["branch"] == "main"
    assert run(tmp_path / "main.py", tmp_path)[0] is None


@posix
@needs_git
def test_slow_facts_and_processes(repository):
    """A forked child has the parent's finished findings and can begin its own; exit never waits for the search."""
    code = """
        import json, os
        from otel_stage._environment import slow_facts, start_slow_facts
        assert slow_facts() == {}
        start_slow_facts()
        if not (child := os.fork()):
            slow_facts(30)  # the parent's thread is not here: must not wait for it
            start_slow_facts()
            os._exit(0 if "git" in slow_facts(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
        slow_facts(30)
        start_slow_facts()
        assert "git" in slow_facts()
        if not (child := os.fork()):
            os._exit(0 if "git" in slow_facts() else 1)
        assert os.waitpid(child, 0)[1] == 0
        os.makedirs("other")
        start_slow_facts("other")
        print(1)
    """
    assert python(code, cwd=repository) == 1


def test_packages_are_hashed_by_name_and_version(tmp_path):
    """The hash is over normalised name==version lines, whatever the order, the spelling and the kind of record."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in ("Foo_Bar-1.0.dist-info", "baz-2.dist-info", "module", "own.egg-info"):
        (one / folder).mkdir(parents=True)
    for folder in ("baz-2-py3.11.egg-info", "own.egg-info", "foo.bar-1.0.dist-info"):
        (two / folder).mkdir(parents=True)
    expected = hashlib.sha256(b"baz==2\nfoo-bar==1.0\nown==\n").hexdigest()
    assert packages_sha256([str(one), str(tmp_path / "missing")]) == expected
    assert packages_sha256([str(two), str(one)]) == expected
    (two / "new-1.dist-info").mkdir()
    assert packages_sha256([str(two), str(one)]) != expected
    assert packages_sha256([str(tmp_path)]) is None


def plain(x):
    """Stand for a user's function."""
    return x + 1


def decorated(fn):
    """Stand for a user's decorator."""

    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


class Callable:
    def __call__(self, x):
        return x

    def method(self, x):
        return x


def test_a_function_is_identified_by_its_source():
    """The hash is of the dedented source, found through decorators, partials and methods."""
    expected = hashlib.sha256(
        b'def plain(x):\n    """Stand for a user\'s function."""\n    return x + 1\n'
    ).hexdigest()
    identity = {"kind": "function-source", "value": f"sha256:{expected}"}
    assert code_identity(plain) == identity
    assert code_identity(decorated(decorated(plain))) == identity
    assert code_identity(functools.partial(functools.partial(plain), 1)) == identity
    method = hashlib.sha256(b"def method(self, x):\n    return x\n").hexdigest()
    assert code_identity(Callable().method) == {"kind": "function-source", "value": f"sha256:{method}"}
    assert code_identity(Callable())["kind"] == "function-source"
    code_identity(plain)["value"] = "changed"
    assert code_identity(plain) == identity


def test_code_without_source_is_identified_by_its_bytecode(tmp_path):
    """Lambdas and generated functions have a hash that is the same in every process and differs with the code."""
    code = """
        import json
        from otel_stage._environment import code_identity
        space = {}
        exec("def f(x):\\n    return x in {'a', 'b', 'c', 'd'} and (lambda: x)", space)
        print(json.dumps([code_identity(space["f"]), code_identity(lambda: 1), code_identity(lambda: 2)]))
    """
    first = python(code, cwd=tmp_path, PYTHONHASHSEED="1")
    assert first == python(code, cwd=tmp_path, PYTHONHASHSEED="2")
    assert {identity["kind"] for identity in first} == {"bytecode"}
    assert len({identity["value"] for identity in first}) == 3


def test_code_that_is_not_ours_to_read_is_absent():
    """Built-in functions, classes and circular wrappers give no identity and no error."""
    circular = functools.partial(plain)
    circular.__wrapped__ = circular
    for thing in (len, int, 3, None):
        assert code_identity(thing) is None
    code_identity(circular)


def test_a_process_without_a_script_has_none(tmp_path):
    """`python -c` has no main script."""
    code = """
        import json
        from otel_stage._environment import script_identity
        print(json.dumps(script_identity()))
    """
    assert python(code, cwd=tmp_path) is None
    assert script_identity() is None or script_identity()["kind"] == "script"


def test_importing_costs_little(tmp_path):
    """Neither OpenTelemetry nor what is needed rarely is imported with the module, or by the quick facts."""
    code = """
        import json, sys
        before = set(sys.modules)
        import otel_stage._environment as environment
        print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
    """
    new = set(python(code, cwd=tmp_path))
    assert not new & {
        "opentelemetry",
        "subprocess",
        "inspect",
        "hashlib",
        "threading",
        "platform",
        "importlib",
    }
    assert _environment.__all__
