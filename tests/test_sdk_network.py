"""What leaves by the network: counted, never in the way, and without secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from subprocess import CompletedProcess
from typing import Any

import pytest
from sdk_support import WORK, is_whole
from support import JobFiles

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


def test_a_closed_endpoint_changes_nothing(job: JobFiles, python: Python) -> None:
    """With nobody at the endpoint exit code and files are as ever, and the job manifest says that nothing left."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    done = python(
        WORK + "print(work(sys.argv[1]))\nsys.exit(5)", job.path, check=False,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_STAGE_OTLP_SHUTDOWN_SECONDS": "0.1"},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("SOUND\n", 5)
    is_whole(job)
    telemetry = job.manifest["telemetry"]
    assert telemetry["otlp_endpoint"] == "http://127.0.0.1:9"
    assert telemetry["spans_exported"] == telemetry["logs_exported"] == 0


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """An OTLP endpoint that keeps what it gets."""
    got: dict[str, list[bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.setdefault(self.path, []).append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_what_leaves_is_counted(job: JobFiles, python: Python, collector: tuple[str, dict[str, list[bytes]]]) -> None:
    """Spans and log records reach the endpoint before the pipeline is left, and the job manifest counts them."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    endpoint, got = collector
    python(WORK + "work(sys.argv[1])", job.path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    is_whole(job)
    assert set(got) == {"/v1/traces", "/v1/logs"}
    assert b"stage demux" in b"".join(got["/v1/traces"])
    assert b"demuxing" in b"".join(got["/v1/logs"])
    telemetry = job.manifest["telemetry"]
    assert (telemetry["otlp_endpoint"], telemetry["failed"]) == (endpoint, 0)
    assert telemetry["spans_exported"] == 4
    assert telemetry["logs_exported"] >= 12


def test_text_that_is_no_utf8_does_not_spoil_a_batch(
    job: JobFiles, python: Python, collector: tuple[str, dict[str, list[bytes]]]
) -> None:
    """Lone surrogates, huge numbers and NaN anywhere are delivered like all else: nothing fails."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    endpoint, got = collector
    python(
        """
        import logging, sys
        from otel_stage import pipeline, stage
        odd = "caf\\udce9"
        with pipeline("p", job_dir=sys.argv[1], config={odd: odd}, console="off"):
            try:
                with stage("s") as st:
                    st.set_config({odd: odd, "huge": 2**70, "nan": float("nan"), "none": None, "empty": []})
                    st.track_output(st.dir / odd, note=odd).touch()
                    st.log.info(odd)
                    logging.getLogger(odd).warning("%s", odd)
                    st.add_warning(odd)
                    st.run([sys.executable, "-c", "import sys; sys.stdout.buffer.write(bytes([99, 233]))", odd])
                    raise RuntimeError(odd)
            except RuntimeError:
                pass
        """,
        job.path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
    )  # fmt: skip
    telemetry = job.manifest["telemetry"]
    assert telemetry["failed"] == 0
    assert telemetry["spans_exported"] == 3
    assert b"stage s" in b"".join(got["/v1/traces"])
    assert job.stage("s")["status"] == "failed"


def test_secrets_are_nowhere(job: JobFiles, python: Python, collector: tuple[str, dict[str, list[bytes]]]) -> None:
    """Config, metadata, messages, tracebacks, argv, environment, program output: no file, line or packet holds one."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    endpoint, got = collector
    secret, by_name = "sk-ant-api03-hunter2hunter2hunter2hunter2", "correct-horse-battery-staple"
    done = python(
        """
        import logging, os, sys, warnings
        from otel_stage import pipeline, stage
        secret, by_name = os.environ["UNNAMED"], os.environ["DB_PASSWORD"]
        class Login(Exception): pass
        with pipeline("p", job_dir=sys.argv[1], config={"token": secret, "nested": {"password": by_name}}, capture="sys"):
            try:
                with stage("s") as st:
                    st.set_config(api_key=by_name, url=f"postgres://user:{by_name}@host/db", plain=secret, many=[secret])
                    st.track_output(st.dir / "x", access_token=by_name, note=f"made with {secret}").touch()
                    st.track_intermediate(st.dir / "y", reason=f"password={by_name}")
                    for say in (st.log.info, st.log.debug, logging.getLogger("lib").warning, st.add_warning, st.add_error):
                        say(f"key {secret} and {by_name}")
                    st.log.warning("by argument %s", by_name)
                    logging.getLogger("lib").error("by mapping %(password)s", {"password": by_name})
                    warnings.warn(f"deprecated token={by_name}")
                    print(f"printed {by_name}", file=sys.stdout)
                    st.run([sys.executable, "-c", "import sys; print(sys.argv); sys.exit(1)", "--password", by_name], check=False)
                    st.set_resources(note=secret)
                    raise Login(f"cannot log in with {by_name}") from ValueError(secret)
            except Login:
                pass
            with stage("t") as st:
                st.skip(f"no password={by_name}")
        """,
        job.path, f"--api-key={by_name}",
        env={"DB_PASSWORD": by_name, "UNNAMED": secret, "OTEL_STAGE_FACTS": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
    )  # fmt: skip
    assert job.stage("s")["status"] == "failed"
    everything = job.everything()
    printed = done.stderr.replace("UserWarning: deprecated token=" + by_name, "")
    sent = b"".join(b"".join(bodies) for bodies in got.values())
    assert b"cannot log in" in everything
    assert b"cannot log in" in sent
    for word in (secret, by_name):
        assert word.encode() not in everything
        assert word.encode() not in sent
        assert word not in "\n".join(line for line in printed.splitlines() if line.startswith("["))
