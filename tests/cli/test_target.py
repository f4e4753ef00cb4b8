"""`MODULE:ATTR`: found, or one line that says why not and what to write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cli.target import load_target
from holdfast.errors import ConfigError
from holdfast.service import Service

SHOP = """
from holdfast.service import Service
svc = Service("shop")
def helper(): ...
LIMIT = 3
class Box:
    inner = svc
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sorted(set(sys.modules) - modules):
        if not name.startswith("holdfast"):
            del sys.modules[name]


def name_of(found: object) -> str:
    assert isinstance(found, Service)
    return found.name


def write(directory: Path, name: str, text: str) -> str:
    (directory / f"{name}.py").write_text(text, encoding="utf-8")
    return str(directory)


@pytest.mark.parametrize("target", ["hf_shop:svc", "hf_shop", "hf_shop:Box.inner"])
def test_a_service_is_found(tmp_path: Path, target: str) -> None:
    assert name_of(load_target(target, write(tmp_path, "hf_shop", SHOP))) == "shop"


def test_a_module_in_a_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "hf_pkg").mkdir()
    (tmp_path / "hf_pkg" / "__init__.py").touch()
    write(tmp_path / "hf_pkg", "api", SHOP)
    assert name_of(load_target("hf_pkg.api:svc", str(tmp_path))) == "shop"


def test_one_service_under_two_names_is_one(tmp_path: Path) -> None:
    assert name_of(load_target("hf_two", write(tmp_path, "hf_two", SHOP + "also = svc\n"))) == "shop"


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("hf_shp:svc", SHOP, r"there is no module 'hf_shp' in .* did you mean 'hf_shop'\?"),
        ("hf_nope.x:svc", SHOP, "there is no module 'hf_nope'"),
        ("hf_shop:svk", SHOP, r"the module 'hf_shop' has no 'svk', did you mean 'svc'\?"),
        ("hf_shop:zzz", SHOP, "has no 'zzz'; the module's Services are svc"),
        ("hf_shop:helper", SHOP, "hf_shop:helper is a function, not a Service; the module's Services are svc"),
        ("hf_shop:LIMIT", SHOP, "is of type int, not a Service"),
        ("hf_shop:LIMIT", "LIMIT = 3", "not a Service; the module has no Service"),
        ("hf_shop", "x = 1", r"has no Service; write svc = Service\('hf_shop'\)"),
        ("hf_shop", SHOP + "two = Service('two')", "has 2 Services; choose one: hf_shop:svc, hf_shop:two"),
        ("hf_shop.py", SHOP, "is a file; write the module's name: hf_shop:svc"),
        ("src/hf_shop.py:app", SHOP, "write the module's name: src.hf_shop:app"),
        ("", SHOP, "is not MODULE:ATTR"),
        (":svc", SHOP, "is not MODULE:ATTR"),
        ("hf_shop:", SHOP, "is not MODULE:ATTR"),
        ("hf-shop:svc", SHOP, "is not MODULE:ATTR"),
        ("hf_shop:a b", SHOP, "is not MODULE:ATTR"),
    ],
)
def test_a_target_that_does_not_work_is_told_in_one_line(tmp_path: Path, target: str, source: str, message: str) -> None:
    app_dir = write(tmp_path, "hf_shop", source)
    with pytest.raises(ConfigError, match=message) as caught:
        load_target(target, app_dir)
    assert "\n" not in str(caught.value)


PROTOCOLS = """
import asyncio
class Echo(asyncio.Protocol): ...
class Datagrams(asyncio.DatagramProtocol): ...
def make() -> Echo: return Echo()
def nameless(): return Echo()
def wrong() -> "Nowhere": ...
class Other: ...
"""


@pytest.mark.parametrize("attribute", ["Echo", "Datagrams", "make"])
def test_what_makes_a_protocol_is_found(tmp_path: Path, attribute: str) -> None:
    found = load_target(f"hf_echo:{attribute}", write(tmp_path, "hf_echo", PROTOCOLS))
    assert getattr(found, "__name__", "") == attribute


@pytest.mark.parametrize("attribute", ["nameless", "wrong", "Other"])
def test_what_does_not_say_that_it_makes_one_is_refused(tmp_path: Path, attribute: str) -> None:
    with pytest.raises(ConfigError, match="not a Service"):
        load_target(f"hf_echo:{attribute}", write(tmp_path, "hf_echo", PROTOCOLS))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nimport hf_missing_thing\n", "hf_shop.py line 2: import hf_missing_thing: ModuleNotFoundError: No module named"),
        ("def f(:\n", r"hf_shop.py line 1: def f\(:: SyntaxError"),
        ("x = {}\ny = x['k']\n", r"hf_shop.py line 2: y = x\['k'\]: KeyError: 'k'"),
        ("import sys\nsys.exit(3)\n", r"hf_shop.py line 2: sys.exit\(3\): SystemExit: 3"),
        ("import json\njson.loads('{')\n", r"hf_shop.py line 2: json.loads\('{'\): JSONDecodeError"),
        ("from holdfast.service import Service\nService('Bad Name')\n", r"hf_shop.py line 2: Service\('Bad Name'\): ConfigError"),
    ],
)
def test_the_users_own_error_shows_the_users_own_line(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match="module 'hf_shop' cannot be imported: " + message):
        load_target("hf_shop:svc", write(tmp_path, "hf_shop", source))


def test_the_app_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_target("hf_shop:svc", str(tmp_path / "nowhere"))
