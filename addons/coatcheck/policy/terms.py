"""Terms: what bears on a call beside its decision: pins and masks on one that goes, how one that does not is told.

Law: terms are read from the same policy as the decision; they never change it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from coatcheck.mcp.call import Call
from coatcheck.policy.decision import Decision, Deny
from coatcheck.policy.model import DenyStyle, MaskRule, PinMode, Policy, Server


@dataclass(frozen=True, slots=True)
class Terms:
    """What is None or empty does not bear on the call."""

    pins: PinMode | None = None
    pin_reviewers: tuple[str, ...] = ()
    masks: tuple[MaskRule, ...] = ()
    style: DenyStyle | None = None

    def in_words(self) -> list[str]:
        """One line for each."""
        lines: list[str] = []
        if self.pins is not None:
            asks = f", or {', '.join(self.pin_reviewers)} approve it" if self.pin_reviewers else ""
            until = f"hidden and denied until 'coatcheck policy pin' accepts it{asks}"
            lines.append(f"pins: {self.pins}: if its definition changes, it is {_CHANGED.get(self.pins, until)}")
        lines += [f"mask: {mask.id}: {', '.join((*mask.detect, *mask.fields))} as {mask.form}" for mask in self.masks]
        if self.style is not None:
            lines.append(f"told as: {_TOLD[self.style]}")
        return lines


_CHANGED: Mapping[PinMode, str] = {"warn": "called all the same, and journaled"}
_TOLD: Mapping[DenyStyle, str] = {
    "error": "an error",
    "tool_error": "the tool's own failure (isError), with the message",
    "hide": "a tool that does not exist (-32602)",
}


def terms_of(policy: Policy, server: Server, call: Call, decision: Decision) -> Terms:
    """The terms of one call that was decided so."""
    is_tool = call.method == "tools/call" and call.kind == "mcp"
    if isinstance(decision, Deny):
        return Terms(style=decision.style if is_tool and decision.style != "error" else None)
    return Terms(
        server.pins if is_tool else None,
        server.pin_reviewers if is_tool and server.pins == "hold" else (),
        tuple(mask for mask in policy.masks if mask.server == server.name),
    )
