"""The query of a call: a slip in it must not widen a list, nor be taken for something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pullcord.api.models import MOST_ERRORS
from pullcord.core.errors import UsageError


def check_parameters(given: Iterable[tuple[str, str]], known: Iterable[str]) -> None:
    """Refuse parameters that the call does not take, and those that come twice.

    Args:
        given: the query's names and values.
        known: the names that the call takes; each takes one value.

    Raises:
        UsageError: naming the parameters.
    """
    takes = sorted(known)
    counts = Counter(name for name, _ in given)
    unknown = sorted(set(counts) - set(takes))
    if unknown:
        hint = f"known: {', '.join(takes)}" if takes else "this call takes none"
        message = f"unknown query parameters: {', '.join(unknown)[:100]!r}; {hint}"
        raise _refusal(message, unknown, "unknown parameter", "extra_forbidden")
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        message = f"query parameters given more than once: {', '.join(repeated)}; give each one value"
        raise _refusal(message, repeated, "given more than once", "repeated")


def _refusal(message: str, names: list[str], short: str, kind: str) -> UsageError:
    errors = [{"loc": ["query", name[:100]], "msg": short, "type": kind} for name in names[:MOST_ERRORS]]
    return UsageError(message, errors=errors)
