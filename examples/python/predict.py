"""Scores telemetry from Kafka with a model in ONNX, beside the cars: a separate program with its own consumer group.

    python3 predict.py --model model             # a line when an alarm begins or ends
    python3 predict.py --model model --rows      # a line per row
"""

import argparse
import json
import pathlib
from dataclasses import dataclass, field

import numpy as np
from score import Network, scores
from telemetry import Seen, consumer, decode, pinned, read, topic


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("model"), help="folder of model.onnx, manifest.json")
    parser.add_argument("--group", default="python-predictor")
    parser.add_argument("--rows", action="store_true", help="one line per row")
    parser.add_argument("--to-end", action="store_true", help="from the beginning of the topic to its end as it is now")
    return parser.parse_args()


class Alarm:
    """One event is one alarm: rows in succession over the threshold raise it, rows below the lower one clear it."""

    def __init__(self, spec):
        threshold = spec["threshold"]
        self.spec = {"raiseAfterRows": 5, "clearAfterRows": 30, "clearBelow": 0.8 * threshold, **spec}
        self.active, self.rows = False, 0

    def push(self, score):
        """Whether the alarm changes. No score changes nothing."""
        if np.isnan(score):
            return False
        spec = self.spec
        other = score < spec["clearBelow"] if self.active else score > spec["threshold"]
        self.rows = self.rows + 1 if other else 0
        if self.rows < spec["clearAfterRows" if self.active else "raiseAfterRows"]:
            return False
        self.active, self.rows = not self.active, 0
        return True


@dataclass
class Vehicle:
    """The last rows of a vehicle: as many as the next score depends on, and no more."""

    alarm: Alarm
    times: np.ndarray = field(default_factory=lambda: np.empty(0))
    values: np.ndarray | None = None


class Predictor:
    def __init__(self, folder):
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.network = Network(folder / "model.onnx")
        self.tail = self.manifest["features"]["windowRows"] + self.manifest["score"]["smoothingRows"] - 2
        self.vehicles, self.seen = {}, Seen()

    def take(self, batch):
        """Per new row of a batch: time, score, and whether the alarm changed."""
        if batch is None or batch.signal_set != self.manifest["signalSet"]["id"]:
            return
        times, values = self.seen.fresh(batch)
        vehicle = self.vehicles.setdefault(batch.vehicle, Vehicle(Alarm(self.manifest["alarm"])))
        if vehicle.values is None:
            vehicle.values = np.empty((0, values.shape[1]), dtype=np.float32)
        all_times = np.concatenate([vehicle.times, times])
        all_values = np.concatenate([vehicle.values, values])
        found = scores(self.manifest, self.network, all_times, all_values)[len(vehicle.times) :]
        keep = max(0, len(all_times) - self.tail)
        vehicle.times, vehicle.values = all_times[keep:], all_values[keep:]
        for time, score in zip(times, found, strict=True):
            yield int(time), float(score), vehicle.alarm.push(score), vehicle.alarm.active


def main():
    options = arguments()
    predictor = Predictor(options.model)
    threshold = predictor.manifest["alarm"]["threshold"]

    def show(record):
        batch = decode(record)
        for time, score, changed, active in predictor.take(batch):
            if options.rows or changed:
                line = {"vehicle": batch.vehicle, "time": time, "score": None if np.isnan(score) else score}
                print(json.dumps({**line, "threshold": threshold, "alarm": active}), flush=not options.rows)

    kafka = consumer(options.group)
    if options.to_end:
        for record in read(kafka, topic("telemetry"), pinned(kafka, topic("telemetry"))):
            show(record)
    else:
        kafka.subscribe([topic("telemetry")])
        try:
            while True:
                records = [record for record in kafka.consume(500, timeout=1) if record.error() is None]
                for record in records:
                    show(record)
                if records:
                    kafka.commit(asynchronous=False)
        except KeyboardInterrupt:
            pass
    kafka.close()


main()
