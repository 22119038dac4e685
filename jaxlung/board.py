"""TensorBoard's event files."""

import time
from collections.abc import Mapping
from pathlib import Path


class Board:
    """Writes scalars at once, without a thread: tensorboardX's waits for ever on a full disk."""

    def __init__(self, folder: Path, purge_step: int):
        # Imported at the first record: it takes PyTorch's second with it, where that is installed.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        # What an earlier process wrote from this step on is forgotten.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = self._event(wall_time=time.time(), step=purge_step, session_log=start)
        self._writer.write_event(event)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [
            self._summary.Value(tag=name, simple_value=value) for name, value in values.items()
        ]
        summary = self._summary(value=scalars)
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
