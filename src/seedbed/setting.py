"""One setting, as the list of all settings and its readers know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    """As one would write it in the environment; empty: none."""
    unit: str
    who: str
    """Who reads it: all, seed, worker, client, up."""
    meaning: str
    by_role: Mapping[str, str] = field(default_factory=dict[str, str])
    """Defaults that differ by role."""

    def default_for(self, role: str) -> str:
        return self.by_role.get(role, self.default)

    @property
    def shown_default(self) -> str:
        """The default as the documentation shows it."""
        if self.by_role:
            return ", ".join(f"{role} {text}" for role, text in self.by_role.items())
        return self.default or "none"
