"""One transaction: everything that a request or a task does in the store, or nothing of it."""

from __future__ import annotations

from functools import cached_property

from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.alert_rules import AlertRules
from infra.db.alerts import Alerts
from infra.db.analyses import Analyses
from infra.db.contents import Contents
from infra.db.deliveries import Deliveries
from infra.db.documents import Documents
from infra.db.happenings import Happenings
from infra.db.high_records import HighRecords
from infra.db.imports import Imports
from infra.db.signals import Signals
from infra.db.slow_queries import SlowQueries
from infra.db.snapshots import Snapshots
from infra.db.stored_bars import StoredBars
from infra.db.tasks import Tasks


class Unit:
    """The repositories over one connection, good until the work that was given it returns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    @cached_property
    def bars(self) -> StoredBars:
        """Bars of all symbols and intervals."""
        return StoredBars(self.connection)

    @cached_property
    def imports(self) -> Imports:
        """What was imported."""
        return Imports(self.connection)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Previous close, high and low."""
        return Snapshots(self.connection)

    @cached_property
    def high_records(self) -> HighRecords:
        """All-time highs and lows."""
        return HighRecords(self.connection)

    @cached_property
    def alert_rules(self) -> AlertRules:
        """Rules of users."""
        return AlertRules(self.connection)

    @cached_property
    def analyses(self) -> Analyses:
        """Whole analyses of a symbol."""
        return Analyses(self.connection)

    @cached_property
    def contents(self) -> Contents:
        """News."""
        return Contents(self.connection)

    @cached_property
    def signals(self) -> Signals:
        """Signals and their outcomes."""
        return Signals(self.connection)

    @cached_property
    def slow_queries(self) -> SlowQueries:
        """Queries that took long."""
        return SlowQueries(self.connection)

    @cached_property
    def deliveries(self) -> Deliveries:
        """What is to be told outside."""
        return Deliveries(self.connection)

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts, each given once."""
        return Alerts(self.connection)

    @cached_property
    def tasks(self) -> Tasks:
        """Background work."""
        return Tasks(self.connection)

    @cached_property
    def documents(self) -> Documents:
        """The monitor's present state."""
        return Documents(self.connection)

    @cached_property
    def happenings(self) -> Happenings:
        """What the monitor saw and did."""
        return Happenings(self.connection)
