"""The one sender of what the service tells others: signed webhooks."""
