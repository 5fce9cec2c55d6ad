"""Whatever is sent to the documented routes, no answer is a 500 or an undocumented status."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.local import LocalService

_folder = tempfile.TemporaryDirectory(prefix="finstage-openapi-")
local = LocalService(Path(_folder.name), allowed_hosts=("testserver",))
schema = schemathesis.openapi.from_asgi("/openapi.json", local.app)


def no_bug(_: object, response: schemathesis.Response, __: object) -> None:
    """501 and 503 are documented answers; 500 is a bug, whatever was sent."""
    assert response.status_code != 500, response.text


@schema.parametrize()
@hypothesis.settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)
def test_no_answer_is_undocumented(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(
        checks=[
            no_bug,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
        timeout=120,  # a slow machine decides no test
    )
