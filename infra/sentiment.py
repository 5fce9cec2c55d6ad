"""The language of a text, and how it feels about what it tells, if that is English."""

from __future__ import annotations

import functools
from typing import Any

_LEAST_LETTERS = 20  # of less any guess is as good as another
_LEAST_SURE = 0.8


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of the language, None where the text does not tell."""
    if sum(map(str.isalpha, text)) < _LEAST_LETTERS:
        return None
    code, sure = _identifier().classify(text)
    return str(code) if sure >= _LEAST_SURE else None


def sentiment_of(text: str) -> float:
    """Return VADER's compound score of an English text, -1 (bad) to 1 (good).

    Rule based, made for short texts of social media: it knows no finance.
    """
    return float(_analyzer().polarity_scores(text)["compound"])


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
