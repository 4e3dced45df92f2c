"""Which place each child of a supervisor has, and when it is forgotten: see `process.places`.

A child of a static supervisor has the place of its id, as long as there is a spec of that id. A child of a dynamic one
has no id of its own: it is given a new place when it starts first, and keeps that from restart to restart. What a child
of either kind loses by a normal end of its own accord, its OS parent's `Offspring` sees to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp_runtime.process import places

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp_runtime.process.child import Child
    from otp_runtime.process.places import Place


class ChildPlaces:
    """The places of one supervisor's children."""

    def __init__(self, own: Place, *, by_id: bool, forget: Callable[[Place], None]) -> None:
        """`own` is the supervisor's place; `by_id` says whether it is a static one; `forget` forgets a place."""
        self._own = own
        self._forget = forget
        self.by_id = by_id
        self._first_starts = 0
        self._of_process: dict[int, Place] = {}

    def of_start(self, key: Any) -> Place:
        """Give the place of the child that is about to start. `key`: its id, or the process it was; None: it is new."""
        if self.by_id:
            return places.place_of_child(self._own, key)
        known = None if key is None else self._of_process.get(key.id)
        if known is not None:
            return known
        self._first_starts += 1
        return places.place_of_child(self._own, self._first_starts)

    def started(self, key: Any, child: Child) -> None:
        """A child is there: a dynamic one goes by its new process from now on."""
        if not self.by_id and child.job is not None:
            if key is not None:
                self._of_process.pop(key.id, None)
            self._of_process[child.id] = child.job.place

    def gone(self, process_id: int) -> None:
        """A dynamic child will not come back."""
        place = self._of_process.pop(process_id, None)
        if place is not None:
            self._forget(place)

    def dropped(self, before: Any, after: Any) -> None:
        """A decision has changed the children of a static supervisor: forget those whose spec went."""
        if self.by_id and len(after) < len(before):
            for child in before:
                if after.get(child.spec.id) is None:
                    self._forget(places.place_of_child(self._own, child.spec.id))
