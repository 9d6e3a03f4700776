"""What importing and opening costs, against the SDK's traces and logs and an empty interpreter.

    python bench/imports.py [--quick]

Each figure is taken in a process of its own, peers in turn; compile the bytecode first (any run does).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

OPEN = """
import os
from otel_stage import pipeline, stage
p = pipeline("p", job_dir=os.environ["JOB"] + "/" + str(os.getpid()), console="off")
p.__enter__()
"""
JOBS = {
    "import otel_stage": "import otel_stage",
    "the SDK's traces and logs": "import opentelemetry.sdk.trace, opentelemetry.sdk._logs",
    "the same with their exporters": "import opentelemetry.sdk.trace, opentelemetry.sdk._logs, opentelemetry.sdk.trace.export, opentelemetry.sdk._logs.export",
    "from otel_stage import pipeline, stage": "from otel_stage import pipeline, stage",
    "a pipeline open": OPEN,
    "import otel_stage.manifest (readers)": "import otel_stage.manifest",
    "otel-stage --help (whole command)": None,
}


def one(code, env):
    if code is None:
        script = "import time; t = time.perf_counter()\nimport sys; sys.argv = ['otel-stage', '--help']\nfrom otel_stage.cli import main\ntry: main()\nexcept SystemExit: pass\nsys.stderr.write(str((time.perf_counter() - t) * 1e3))"
        return float(subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stderr)
    script = f"import time as _t; _a = _t.perf_counter()\n{code}\nimport os; os.write(1, str((_t.perf_counter() - _a) * 1e3).encode()); os._exit(0)"
    return float(subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True).stdout)


def main():
    rounds = 5 if "--quick" in sys.argv else 31
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["JOB"] = tempfile.mkdtemp(prefix="bench-imports-")
    for code in JOBS.values():
        one(code, env)
    samples = {name: [] for name in JOBS}
    for _ in range(rounds):
        for name, code in JOBS.items():
            samples[name].append(one(code, env))
    peer = samples["the SDK's traces and logs"]
    bars = {"import otel_stage": "≤ 40 ms", "a pipeline open": "≤ 1.3 ×"}
    for name, values in samples.items():
        ratio = statistics.median(a / b for a, b in zip(values, peer, strict=True))
        bar = f"   bar {bars[name]}" if name in bars else ""
        print(f"  {name:<42} {statistics.median(values):7.1f} ms   {ratio:5.2f} ×{bar}")


if __name__ == "__main__":
    main()
