"""The cluster file is one that Ray itself accepts, and names commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.main import get_command

from serve.cli.main import app

FILE = Path(__file__).parents[2] / "ray_cluster.yaml"


def test_ray_accepts_it() -> None:
    config = prepare_config(yaml.safe_load(FILE.read_text()))

    validate_config(config)

    assert config["provider"]["type"] == "local"


def test_its_commands_exist() -> None:
    commands = set(getattr(get_command(app), "commands", {}))

    named = set(re.findall(r"bin/finstage ([a-z-]+)", FILE.read_text()))

    assert named == {"ray-env", "up"}
    assert named <= commands
