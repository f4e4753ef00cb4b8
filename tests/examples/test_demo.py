"""The demo ends well when everything holds, and only then."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.conductor import ENVIRONMENT, EXAMPLES, PATIENCE_S, python

pytestmark = pytest.mark.slow


def test_everything_arrives_and_the_table_says_so() -> None:
    done = python("demo_transfer.py", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "Every byte arrived: 80 files, " in done.stdout
    for part in ("typed calls", "server streams", "duplex streams", "upload over TCP", "upload over Unix socket"):
        assert f"\n{part} " in done.stdout


def test_one_wrong_bit_is_found_and_named() -> None:
    done = python("demo_transfer.py", "--quick", "--json", "--corrupt")
    assert done.returncode == 1, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["ok"] is False
    one_file, whole_tree, both_ways = outcome["failures"]
    assert ".py: sent" in one_file
    assert "the whole tree: sent 40 files, " in whole_tree
    assert "did not arrive over TCP and over the Unix socket" in both_ways


def test_a_service_that_does_not_start_is_told(tmp_path: Path) -> None:
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied)
    (copied / "transfer_service.py").write_text("1 / 0\n", "utf-8")
    done = python(copied / "demo_transfer.py", "--quick", cwd=tmp_path)
    assert done.returncode == 1
    assert "demo: the service did not start" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_ctrl_c_leaves_no_process_behind() -> None:
    command = [sys.executable, "demo_transfer.py"]
    with subprocess.Popen(command, cwd=EXAMPLES, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            service = int(re.findall(r"pid (\d+)", demo.stdout.readline())[0])
            demo.send_signal(signal.SIGINT)
            assert demo.wait(timeout=PATIENCE_S) == 130
        finally:
            demo.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(service, 0)
