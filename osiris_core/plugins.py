"""Plugins of one entry-point group: found by name, loaded on use, broken or clashing ones reported and harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container
    from importlib.metadata import EntryPoint


class PluginError(Exception):
    """A plugin that cannot be had: `clash` when two distributions claim its name, else it does not load."""

    def __init__(self, message: str, *, clash: bool = False) -> None:
        super().__init__(message)
        self.clash = clash


class PluginGroup:
    """
    The plugins of an entry-point group. Installed distributions are read once, when first asked.

    Args:
        group: The entry-point group, `osiris.drivers`.
        what: What its members are called in messages, `driver`.
        reserved: Built-in names, which no plugin can have.
    """

    def __init__(self, group: str, what: str, reserved: Container[str]) -> None:
        self._group = group
        self._what = what
        self._reserved = reserved
        self._found: dict[str, list[EntryPoint]] | None = None

    def names(self) -> list[str]:
        """The names that plugins claim, but for the reserved ones. Loads none of them."""
        return [name for name in self._points() if name not in self._reserved]

    def load(self, name: str) -> Any:
        """
        What the plugin of that name brings; None when there is no such plugin.

        Raises:
            PluginError: It does not load, or several distributions claim the name.
        """
        points = self._points().get(name, [])
        if not points or name in self._reserved:
            return None
        if len(points) > 1:
            claimed = " and ".join(map(_origin, points))
            raise PluginError(f"the {self._what} name {name!r} is claimed by {claimed}", clash=True)
        try:
            return points[0].load()
        except (Exception, SystemExit) as exc:  # a module may also leave
            raise PluginError(f"{self._what} {name!r} of {_origin(points[0])} cannot be loaded: {exc!r}") from exc

    def origin(self, name: str) -> str:
        """Which distribution brings it; several when they clash, nothing when none does."""
        return " and ".join(map(_origin, self._points().get(name, [])))

    def problems(self) -> list[str]:
        """What is wrong with the group's plugins, a sentence each. Loads every one."""
        found = []
        for name, points in sorted(self._points().items()):
            if name in self._reserved:
                claimed = " and ".join(map(_origin, points))
                found.append(f"the {self._what} name {name!r} is built in; {claimed} cannot have it")
                continue
            try:
                self.load(name)
            except PluginError as exc:
                found.append(str(exc))
        return found

    def _points(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            from importlib.metadata import entry_points

            self._found = {}
            for point in entry_points(group=self._group):
                # The same distribution can be on the path twice (an editable install beside its wheel).
                known = self._found.setdefault(point.name, [])
                if all((point.value, _owner(point)) != (other.value, _owner(other)) for other in known):
                    known.append(point)
        return self._found


def _owner(point: EntryPoint) -> str | None:
    return point.dist.name if point.dist else None


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist else point.value
