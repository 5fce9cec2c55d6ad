"""Indicators with parameters: their last values, or those of many bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from starlette.responses import Response

from actors.indicators.client import IndicatorTable
from infra.sources.origin import origin_of
from serve.edge.near import Rendered
from serve.rest import formats
from serve.rest.answers import Question, fresh, rendered
from serve.rest.questions import INDICATORS_ROUTE
from serve.rest.services import Services


@dataclass(frozen=True, slots=True)
class TableQuestion(Question):
    """Indicators of one symbol as a text names them, from closed bars."""

    symbol: str
    period: str
    interval: str
    indicators: str
    last: int | None

    async def render(self, services: Services) -> Rendered:
        """Ask the indicators; raises SymbolUnknown, and what is wrong with the text."""
        table = await self.table(services, False)
        return services.rendered(
            rendered(table.latest()),
            self.symbol,
            str(table.origin["data_version"]),
            INDICATORS_ROUTE,
            self.interval,
            table.stale_since_s,
        )

    async def table(self, services: Services, open_bar: bool) -> IndicatorTable:
        """Return the lines; raises as `render`."""
        return await services.indicators.table(
            self.symbol, self.indicators, self.period, self.interval, self.last, open_bar
        )

    async def series(self, services: Services, open_bar: bool, wanted: formats.Format) -> Response:
        """Return the lines of many bars in the format wanted."""
        table = await self.table(services, open_bar)
        if wanted == "json":
            body = {
                **table.origin,
                "method": "standard",
                "timestamps": table.opened_at_ns // 10**9,
                "series": {
                    text: {n: np.ascontiguousarray(line) for n, line in outputs.items()}
                    for text, outputs in table.lines.items()
                },
            }
            return fresh(body)
        columns = {
            text if len(outputs) == 1 else f"{text}.{name}": np.ascontiguousarray(line)
            for text, outputs in table.lines.items()
            for name, line in outputs.items()
        }
        about = {key: str(table.origin[key]) for key in ("source", "data_version")}
        about["source_label"] = origin_of(about["source"]).label
        return formats.table_response(table.opened_at_ns, columns, wanted, self.symbol, about)
