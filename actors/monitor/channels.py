"""Where alerts about the service go: an SMTP server, webhooks, what the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from infra.notify.signing import new_secret
from infra.notify.targets import shown

Target = tuple[str, str]  # a URL and the secret that signs for it

_MASK = "***"


@dataclass(frozen=True, slots=True)
class EmailServer:
    """An SMTP server. `security`: none, starttls or ssl."""

    smtp_server: str
    smtp_port: int
    from_email: str
    to_emails: tuple[str, ...]
    username: str = ""
    password: str = ""
    security: str = "none"

    def url(self) -> str:
        """Return it as Apprise knows it."""
        who = f"{quote(self.username, '')}:{quote(self.password, '')}@" if self.username else ""
        scheme = "mailto" if self.security == "none" else "mailtos"
        query = {
            "smtp": self.smtp_server,
            "from": self.from_email,
            "to": ",".join(self.to_emails),
            "mode": "insecure" if self.security == "none" else self.security,
        }
        # It was checked when it was configured, by this version or another.
        host = f"[{self.smtp_server}]" if ":" in self.smtp_server else self.smtp_server
        return f"{scheme}://{who}{quote(host, '[]:')}:{self.smtp_port}?{urlencode(query)}"

    def masked(self) -> dict[str, Any]:
        """Return it for people, without its password."""
        return asdict(self) | {"password": _MASK if self.password else ""}


@dataclass(frozen=True, slots=True)
class Channels:
    """All that operators configured; `operators` are the settings' targets."""

    operators: tuple[Target, ...] = ()
    email: EmailServer | None = None
    webhooks: tuple[Target, ...] = ()

    def targets(self, names: Sequence[str]) -> list[Target]:
        """Return whom a rule's channels mean outside of the service; each once."""
        found: list[Target] = []
        if "email" in names and self.email is not None:
            found.append((self.email.url(), ""))
        if "webhook" in names:
            found += self.webhooks
        if "apprise" in names:
            found += self.operators
        return list(dict.fromkeys(found))

    def unset(self, names: Sequence[str]) -> str | None:
        """Return what is to be set first for channels that lead nowhere; None where all do."""
        leads = {
            "email": (self.email, "POST /api/v2/alerts/config/email names its server"),
            "webhook": (self.webhooks, "POST /api/v2/alerts/config/webhook adds one"),
            "apprise": (self.operators, "FINSTAGE_NOTIFY_TARGETS names whom to tell"),
        }
        return next(
            (
                f"nobody would be told by {name}: {how}"
                for name, (found, how) in leads.items()
                if name in names and not found
            ),
            None,
        )

    def with_webhook(self, url: str) -> Channels:
        """Add a webhook with a secret of its own; one that is there stays as it is."""
        if any(known == url for known, _ in self.webhooks):
            return self
        return replace(self, webhooks=(*self.webhooks, (url, new_secret())))

    def without_webhook(self, url: str) -> Channels:
        """Remove a webhook; raises KeyError if it is not there."""
        left = tuple(pair for pair in self.webhooks if pair[0] != url)
        if len(left) == len(self.webhooks):
            raise KeyError(url)
        return replace(self, webhooks=left)

    def secret_of(self, url: str) -> str:
        """Return what signs for a webhook."""
        return dict(self.webhooks)[url]

    def shown(self) -> dict[str, Any]:
        """Return it for people, without secrets."""
        return {
            "email_config": None if self.email is None else self.email.masked(),
            "webhook_urls": [shown(url) for url, _ in self.webhooks],
            "operator_targets": [shown(url) for url, _ in self.operators],
        }
