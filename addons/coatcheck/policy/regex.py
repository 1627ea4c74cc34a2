"""How much work a regular expression can be, told from its source (RE2's syntax).

Law: the estimate is never less than the steps it is compiled to; what cannot be counted is refused.

RE2 takes time linear in the text, but times the size of the expression where its states do not fit into memory, and
compiles it at every use: `.{999}` six times over 60 KB of text took 4.7 s here.
"""

import re

MAX_STEPS = 1_000

_CLASS = r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"
_TOKEN = re.compile(
    rf"(?P<klass>{_CLASS})|(?P<count>\{{\d+(?:,\d*)?\}})|(?P<open>\((?:\?(?:P?<\w+>|[a-zA-Z-]*:?))?)|(?P<close>\))"
    r"|(?P<repeat>[*+?])|(?P<unicode>\\[pP](?:\{\^?\w+\}|\w))|(?P<quote>\\Q)|(?P<atom>\\.|.)",
    re.DOTALL,
)
_UNICODE_STEPS = 250
"""What a class of Unicode's letters is compiled to, about."""


def steps(expression: str) -> int:
    """At most how many steps it is compiled to. Raises `ValueError` where that cannot be told."""
    groups = [0]
    last = 0
    for found in _TOKEN.finditer(expression):
        match found.lastgroup:
            case "open":
                groups.append(0)
                last = 0
            case "close":
                if len(groups) == 1:
                    raise ValueError("a bracket that was not opened")
                last = groups.pop() + 1
                groups[-1] += last
            case "count":
                low, _, high = found[0].strip("{}").partition(",")
                times = max(int(high or low), 1) + 1
                groups[-1] += last * (times - 1)
                last *= times
            case "repeat":
                groups[-1] += 1
            case "quote":
                raise ValueError(r"'\Q' is not for conditions")
            case _:
                last = 1 + _UNICODE_STEPS * len(re.findall(r"\\[pP]", found[0]))
                groups[-1] += last
        if groups[-1] > MAX_STEPS:
            raise ValueError(f"it is over {MAX_STEPS:,} steps long, counted repetitions written out")
    if len(groups) != 1:
        raise ValueError("a bracket that is not closed")
    return groups[0]


def microseconds(number: int, size: int) -> float:
    """About how long an expression of `number` steps takes at worst on a text of `size` bytes (measured, rounded up).

    A few steps have few states, which are all made once; many make a state at every byte, and follow each of its steps.
    """
    states = min(2.0 ** min(number, 40) * 3.0, size * 0.7)
    following = 0.02 * number * size if number > 8 else 0.0
    return 20.0 + 10.0 * number + 0.01 * size + states + following
