"""Numbers as text: percent, points and nats with their significant digits."""

from __future__ import annotations

import math
from datetime import datetime

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def percent(fraction: float) -> str:
    """A fraction as percent with two decimals, without the percent sign."""
    return fixed(100 * fraction, 2)


def fixed(value: float, digits: int) -> str:
    """A number with a typographic minus sign; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """A number with its sign, also if positive; zero has none."""
    text = fixed(value, digits)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def interval(low: float, high: float, digits: int) -> str:
    """The ends of an interval; `no interval` if an end is not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def p_value(p: float | None) -> str:
    """A p-value with two significant digits; a dash for None and NaN."""
    if p is None or not math.isfinite(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def whole(value: float) -> str:
    """A count with separated thousands."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(n: float) -> str:
    """A number of bytes in a suitable unit."""
    power = min(int(math.log2(n) // 10), 4) if n >= 1 else 0
    return f"{n / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def when(text: str) -> str:
    """An ISO time to the minute, with its zone; any other text unchanged."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()
