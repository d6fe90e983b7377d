"""Whether fewer frames could be late, by branch and bound over the frames that are not.

A late frame may be put anywhere, also across the hyperperiod's end, where the orders of ``exact``
do not reach. So it is left out: frames that end by their deadlines end in the hyperperiod that they
come in, and are a schedule from an empty machine whatever becomes of the others. Branches are
those of ``exact``, and one more: that the frame whose stage would end first is a late one. What
follows a late frame is let off waiting for it, so that nothing that is possible is left out.
"""

from __future__ import annotations

from motet.targets.timetables.exact import MAX_NODES, Tree, can_search
from motet.targets.timetables.placing import Placer


def fewest_late(placer: Placer, missed: tuple[int, ...], max_nodes: int = MAX_NODES) -> bool:
    """Whether no timetable of the layout has fewer late frames, by priority, than ``missed``.

    False where that is not known, too.
    """
    if not can_search(placer):
        return False
    tree = _OnTime(placer, None, max_nodes)
    tree.fewest = missed
    tree.branch()
    return tree.fewest == missed and tree.nodes <= max_nodes


class _OnTime(Tree):
    fewest: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.late = [0] * len(self.problem.levels)

    def branch(self) -> None:
        """All that may follow; frames that can no longer be in time are late."""
        self.nodes += 1
        if self.nodes > self.max_nodes:
            return
        kept = []
        while (number := self._too_late()) is not None:  # one lets off those that follow it
            kept.append(self._leave_out(number))
        (missed, *_), _ = self.bound()
        at_least = tuple(a + b for a, b in zip(missed, self.late, strict=True))
        if at_least < self.fewest:
            choices = self.choices()
            if not choices:
                self.fewest = at_least
            else:
                self._try_all(choices)
        for number, done, ready in reversed(kept):
            self._put_back(number, done, ready)

    def _try_all(self, choices: list[int]) -> None:
        first = self.first_to_end()
        for number in choices:
            self.go(number)
        kept = self._leave_out(first)
        self.branch()
        self._put_back(*kept)

    def _too_late(self) -> int | None:
        _, ends = self.bound()
        jobs = self.problem.jobs
        going = (job for job in jobs if self.done[job.number] < self.count[job.number])
        return next((job.number for job in going if ends[job.number] > job.deadline), None)

    def _leave_out(self, number: int) -> tuple[int, int, int | None]:
        kept = number, self.done[number], self.ready[number]
        self.late[self.level[number]] += 1
        self.done[number] = self.count[number]
        self.ready[number] = self.problem.jobs[number].release
        return kept

    def _put_back(self, number: int, done: int, ready: int | None) -> None:
        self.late[self.level[number]] -= 1
        self.done[number], self.ready[number] = done, ready
