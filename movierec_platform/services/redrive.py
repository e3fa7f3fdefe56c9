"""Sends refused events to the gate again: each lands as a new raw object, as the API lands events, and is judged anew.

Crash-safe: rows are claimed in one transaction that says under which key and line; then the object is landed and the
messages are sent; then the rows are redriven. What a killed redrive had claimed, the next one finishes first, with the
same key and content. Two at the same time send some messages twice at worst, and those change nothing.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.quarantine_redrives import Chunk
from movierec_platform.adapters.queues import Queue, open_queue
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import NotLanded, pack, raw_content, raw_key, raw_object, unpack
from movierec_platform.domain.json_text import encode
from movierec_platform.domain.quarantine import HELD_NOW, Selection
from movierec_platform.errors import MessageRefused
from movierec_platform.services.quarantine import Outcome, chunks, now_ms
from movierec_platform.services.replay import replay_from

SOURCE = "redrive"


@dataclass(frozen=True, slots=True)
class Redrive:
    """The way from the quarantine back to the gate."""

    state: State
    objects: ObjectStore
    raw: Queue

    @classmethod
    def open(cls, settings: Settings, state: State) -> "Redrive":
        return cls(state, open_objects(settings), open_queue(settings, "raw"))

    def redrive(self, selection: Selection, actor: str) -> Outcome:
        """Held rows of the selection are on the raw queue again; those whose attempts are used up are not.

        Raises QueueUnavailable or ObjectStoreUnavailable: then the next call finishes what this one began.
        """
        table = self.state.quarantine
        skipped = Counter(table.left_alone(selection, acted_on=HELD_NOW, capped=True))
        finished = self._finish_all(actor)
        done: Counter[str] = Counter()
        for chunk in chunks(lambda after: self._claim(selection, after, actor)):
            skipped.update(chunk.skipped)
            if chunk.batch is not None:
                done.update(self._finish(chunk.batch, actor))
        return Outcome(dict(done), dict(skipped), finished)

    def _claim(self, selection: Selection, after: str, actor: str) -> Chunk:
        """One chunk of the selection is claimed, under a key that says when."""
        at_ms = now_ms()
        key = raw_key(at_ms, f"redrive-{uuid.uuid4().hex}")
        return self.state.quarantine.redrives.claim(selection, after, key, actor, at_ms)

    def _finish_all(self, actor: str) -> dict[str, int]:
        """What earlier redrives claimed is redriven; how many by reason."""
        finished: Counter[str] = Counter()
        key = self.state.quarantine.redrives.unfinished()
        while key is not None:
            finished.update(self._finish(key, actor))
            key = self.state.quarantine.redrives.unfinished(after=key)
        return dict(finished)

    def _finish(self, key: str, actor: str) -> dict[str, int]:
        """What was claimed under this key is landed, sent and redriven; how many by reason.

        What SQS never takes is held again, and costs only itself.
        """
        redrives = self.state.quarantine.redrives
        batch = redrives.batch(key)
        if batch.claimed_at_ms is None:
            return {}
        messages = list(batch.messages)
        if batch.events:
            try:
                events, lines = self._landed(key, batch.events, batch.claimed_at_ms)
            except NotLanded as error:
                redrives.release(key, None, (), f"its raw object {key} cannot be read: {error}", actor, now_ms())
                return redrives.finish(key, actor, now_ms())
            messages += pack(key, batch.claimed_at_ms, events, lines)
        replay_from(self.state, batch.claimed_at_ms)
        try:
            self.raw.send(messages)
        except MessageRefused as refused:
            opened = [envelope for body in refused.bodies if (envelope := unpack(body)) and envelope.raw_key == key]
            lines_refused = {line for envelope in opened for line in envelope.lines}
            redrives.release(key, lines_refused, refused.bodies, f"it cannot be sent: {refused}", actor, now_ms())
        return redrives.finish(key, actor, now_ms())

    def _landed(self, key: str, events: Sequence[bytes], claimed_at_ms: int) -> tuple[Sequence[bytes], Sequence[int]]:
        """(the events of this raw object, their lines); it is in S3. Raises NotLanded if that cannot be read.

        If it was there already, the gate may have refused some of it meanwhile, and only the object still has them all.
        """
        if key in self.objects.keys(key):
            content = raw_content(self.objects.get(key))
            return [encode(event) for event in content.events], content.numbers
        self.objects.put(key, raw_object(events, claimed_at_ms, SOURCE))
        return events, range(len(events))
