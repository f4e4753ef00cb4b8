"""The group: help, versions, exit codes, one line per error, and quick because lazy."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from holdfast.cli.main import VERBS, error_line, exit_code, run
from holdfast.errors import ConfigError, DeadlineExceeded, InvalidArgument, MethodNotFound, OutcomeUnknown, Refused, Unavailable
from tests.cli.processes import holdfast, one_line


def test_help_names_every_verb_and_imports_none() -> None:
    code = (
        "import sys, json\nfrom holdfast.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "print(json.dumps([m for m in sys.modules if m.startswith(('rich', 'holdfast.cli', 'holdfast.rpc'))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    *help_text, loaded = done.stdout.decode().splitlines()
    for verb in VERBS:
        assert any(line.strip().startswith(verb) for line in help_text)
        assert f"holdfast.cli.{verb}" not in json.loads(loaded)
    assert not [m for m in json.loads(loaded) if m.startswith("rich")]


def test_the_version_is_one_line() -> None:
    done = holdfast("--version")
    assert done.returncode == 0
    assert done.stdout.decode().startswith("holdfast ")
    assert done.stdout.count(b"\n") == 1


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself_with_examples_and_environment(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    examples = [line for line in text.splitlines() if line.strip().startswith(f"holdfast {verb} ")]
    assert 3 <= len(examples) <= 5
    for option in ("--json", "--no-color", "--quiet", "--verbose"):
        assert option in text
    flags = [line for line in text.splitlines() if line.strip().startswith("-") and "--help" not in line]
    assert " ".join(text.split()).count("env var: HOLDFAST_") == len(flags)


def test_without_words_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Exit codes:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_line_in_the_groups_help_is_the_verbs_own(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    assert VERBS[verb] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["srve"], "there is no verb 'srve', did you mean 'serve'?"),
        (["zzz"], "the verbs are bench, call, check, serve, sim"),
        (["serve"], "Missing argument 'MODULE[:ATTR]'"),
        (["serve", "x", "--drain", "5"], "write a number and a unit, such as 250ms"),
        (["serve", "x", "--workers", "0"], "--workers"),
        (["serve", "x", "--nope"], "No such option"),
        (["serve", "x", "-q", "-v"], "-q and -v contradict"),
        (["call"], "Missing argument 'ADDRESS'"),
        (["call", "a", "b", "-H", "x"], "expected K=V"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("holdfast: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (InvalidArgument("x"), 2),
        (MethodNotFound("x"), 2),
        (click.UsageError("x"), 2),
        (Unavailable("x"), 3),
        (Unavailable("draining", remote=True), 1),
        (OutcomeUnknown("x"), 1),
        (DeadlineExceeded("x"), 1),
        (Refused("x", code="unavailable"), 1),
        (ValueError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_line_has_the_code_and_no_control_characters() -> None:
    assert error_line(Refused("sold\nout \x1b[2J", code="aborted")) == "holdfast: aborted: sold out \\x1b[2J"
    assert error_line(ConfigError("the port is in use")) == "holdfast: the port is in use"


def test_an_error_of_ours_is_one_line_and_debug_brings_the_traceback() -> None:
    plain = holdfast("serve", "no_such_module_here")
    assert plain.returncode == 2
    assert "there is no module 'no_such_module_here'" in one_line(plain)
    debug = holdfast("serve", "no_such_module_here", HOLDFAST_DEBUG="1")
    assert debug.returncode == 2
    assert b"Traceback (most recent call last)" in debug.stderr
