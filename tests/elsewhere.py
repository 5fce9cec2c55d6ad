"""Commands of the pages that are not typed beside the shared service: why, and what stands in.

Every other console block of README.md and docs is run by tests/integration/test_guides.py.
"""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """The reasons there are; a command for which none holds is run."""

    SERVICE = "starts, stops or replaces a service"
    FILES = "changes the files under test"
    MACHINE = "its exit code is the machine's"
    ROOT = "needs root"
    INTERNET = "needs the internet"
    PROGRAM = "needs a program that is not the project's"
    RUN = "is the test run itself"


_LIFECYCLE, _CONTRACT = "tests/lifecycle", "tests/contract"
_START_STOP = f"{_LIFECYCLE}/test_start_and_stop.py"
_UP = (Why.SERVICE, f"{_START_STOP}::test_the_background_service_is_ended_by_down")
_FOREGROUND = (Why.SERVICE, f"{_START_STOP}::test_ctrl_c_stops_everything")
_TWO = (
    Why.SERVICE,
    f"{_START_STOP}::test_two_services_run_side_by_side_and_keys_guard_changes",
)
_SETUP = (Why.FILES, "Makefile::setup")
_RESTORE = (
    Why.SERVICE,
    f"{_CONTRACT}/test_store_moves.py::test_a_backup_restores_all_that_was_there",
)
_COPY = f"{_CONTRACT}/test_store_moves.py::test_the_command_copies_and_says_how_much"
_WAY_BACK = (
    Why.SERVICE,
    f"{_CONTRACT}/test_store_upgrade.py::test_the_backup_is_the_store_as_it_was",
)
_UNIT = (Why.ROOT, "tests/unit/test_guide_blocks.py::test_the_unit_is_what_the_page_says")
_JOIN = f"{_LIFECYCLE}/test_join.py::test_it_joins_works_and_leaves_ray_running"
_PROMETHEUS = f"{_CONTRACT}/test_prometheus_files.py"
_IMAGE = (
    Why.PROGRAM,
    f"{_CONTRACT}/test_deploy_files.py::test_the_page_gives_the_container_what_its_file_says",
)
_KERNEL = (
    Why.INTERNET,
    "tests/integration/test_guides.py::test_the_cells_of_the_notebook_work_in_their_order",
)

ELSEWHERE = {
    "make run": _FOREGROUND,
    "make test": (Why.RUN, "Makefile::test"),
    "make setup": _SETUP,
    "git pull": _SETUP,
    ".venv/bin/finstage doctor": (
        Why.MACHINE,
        f"{_START_STOP}::test_too_few_descriptors_are_named",
    ),
    ".venv/bin/finstage up --detach": _UP,
    ".venv/bin/finstage down": _UP,
    ".venv/bin/finstage restart --rolling": (
        Why.SERVICE,
        f"{_LIFECYCLE}/test_rolling_restart.py::"
        "test_a_rolling_restart_fails_no_request_and_sockets_come_back",
    ),
    "PYTHONPATH=$PWD FINSTAGE_TASK_MODULES=risk .venv/bin/finstage up --detach": (
        Why.SERVICE,
        "tests/integration/test_guides.py::test_a_script_does_what_its_page_says",
    ),
    "FINSTAGE_PORT=8001 FINSTAGE_DATA_DIR=~/finstage-two .venv/bin/finstage up --detach": _TWO,
    "FINSTAGE_DATA_DIR=~/finstage-two .venv/bin/finstage down": _TWO,
    "FINSTAGE_SOURCE=yahoo make run": (
        Why.INTERNET,
        f"{_LIFECYCLE}/test_live_source.py::test_prices_bars_and_indicators_come_from_yahoo",
    ),
    "FINSTAGE_SOURCE=simulated FINSTAGE_SIMULATED_SYMBOLS=100 make run": (
        Why.SERVICE,
        f"{_LIFECYCLE}/test_simulated_source.py::test_it_says_that_its_prices_are_made",
    ),
    "FINSTAGE_SOURCE=replay:monday.gz FINSTAGE_RECORDING_SPEED=10 make run": (
        Why.SERVICE,
        f"{_LIFECYCLE}/test_simulated_source.py::test_what_was_recorded_is_played",
    ),
    ".venv/bin/finstage restore finstage.db --yes": _RESTORE,
    ".venv/bin/finstage restore today.db": _RESTORE,
    "mysql -e 'CREATE DATABASE finstage'": (Why.PROGRAM, _COPY),
    ".venv/bin/finstage store copy "
    "sqlite:///$HOME/.local/share/finstage/store.db mysql://USER:PASSWORD@HOST/finstage": (
        Why.PROGRAM,
        _COPY,
    ),
    "echo 'FINSTAGE_DATABASE_URL=mysql://USER:PASSWORD@HOST/finstage' >> .env": (
        Why.PROGRAM,
        "tests/contract/test_store_moves.py::test_the_start_says_where_the_store_is",
    ),
    ".venv/bin/finstage store copy FROM_URL TO_URL": (Why.PROGRAM, _COPY),
    "rm -f $data/store.db $data/store.db-wal $data/store.db-shm": _WAY_BACK,
    "cp $data/backups/store-VERSION-TIME.db $data/store.db": _WAY_BACK,
    "ray start --head --port=6390 --dashboard-host=127.0.0.1 --object-store-memory=268435456 \\\n"
    "    --resources='{\"finstage_tasks\": 4}' --disable-usage-stats": (Why.SERVICE, _JOIN),
    ".venv/bin/finstage up --address auto --detach": (Why.SERVICE, _JOIN),
    "prometheus --config.file deploy/prometheus/prometheus.yml "
    "--storage.tsdb.path /tmp/prometheus": (
        Why.PROGRAM,
        f"{_PROMETHEUS}::test_promtool_accepts_the_rules_and_the_configuration",
    ),
    "promtool check rules deploy/prometheus/finstage.rules.yml": (
        Why.PROGRAM,
        f"{_PROMETHEUS}::test_promtool_accepts_the_rules_and_the_configuration",
    ),
    "promtool test rules deploy/prometheus/finstage.rules.test.yml": (
        Why.PROGRAM,
        f"{_PROMETHEUS}::test_the_rules_fire_when_they_should_and_only_then",
    ),
    "docker build --file deploy/docker/Dockerfile --tag finstage .": _IMAGE,
    "docker run --init --shm-size=1g --ulimit nofile=65536:65536 --stop-timeout=30 \\\n"
    "    --publish 127.0.0.1:8000:8000 --volume finstage:/var/lib/finstage \\\n"
    "    --env FINSTAGE_API_KEYS=desk:CHANGE-THIS-KEY finstage": _IMAGE,
    "python3 -m http.server 8080 --bind 127.0.0.1": (
        Why.SERVICE,
        "tests/browser/test_guide_dashboard.py::test_each_page_of_the_guide_shows_live_prices",
    ),
    ".venv/bin/python -m pip install ipykernel": _KERNEL,
    ".venv/bin/python -m ipykernel install --user --name finstage": _KERNEL,
    "sudo useradd --system --home-dir /var/lib/finstage --shell /usr/sbin/nologin finstage": _UNIT,
    "sudo install -m 644 deploy/systemd/finstage.service "
    "/etc/systemd/system/finstage.service": _UNIT,
    "sudo install -m 600 -D /dev/null /etc/finstage/finstage.env": _UNIT,
    "sudo systemctl daemon-reload": _UNIT,
    "sudo systemctl enable --now finstage": (
        Why.ROOT,
        f"{_START_STOP}::test_the_service_ends_when_ray_dies_under_it",
    ),
    "sudo -u finstage FINSTAGE_DATA_DIR=/var/lib/finstage "
    "/opt/finstage/.venv/bin/finstage status": _UNIT,
}
