"""Telemetry in Kafka → rows, each once.

telemetry_pb2 is made of Cardan's own description of the format: see README.md.
"""

import json
import os
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from telemetry_pb2 import TelemetryBatch


@dataclass
class Batch:
    """Consecutive rows of one vehicle."""

    vehicle: str
    signal_set: str
    epoch: int
    first_sequence: int
    times: np.ndarray
    """Milliseconds since 1970."""
    values: np.ndarray
    """Rows × signals, float32; NaN = not seen."""


def topic(name):
    return os.environ.get("CARDAN_TOPIC_PREFIX", "") + name


def consumer(group):
    brokers = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
    prefix = os.environ.get("CARDAN_TOPIC_PREFIX", "")
    return Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": prefix + group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )


def partitions_of(kafka, name):
    found = kafka.list_topics(name, timeout=30).topics[name]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def pinned(kafka, name):
    """Per partition what is there now: first offset, and end (exclusive). What comes later is not in."""
    ranges = {}
    for partition in partitions_of(kafka, name):
        low, high = kafka.get_watermark_offsets(TopicPartition(name, partition), timeout=30)
        ranges[partition] = (low, high)
    return ranges


def read(kafka, name, ranges):
    """All records of these offsets, partition by partition, so that another run has them in the same order."""
    for partition, (begin, end) in sorted(ranges.items()):
        if begin >= end:
            continue
        kafka.assign([TopicPartition(name, partition, begin)])
        # Not every offset has a record for us, so the position says when the end is reached. To ask for more records than
        # there are is to wait for the timeout.
        while (left := end - max(begin, kafka.position([TopicPartition(name, partition)])[0].offset)) > 0:
            for record in kafka.consume(min(500, left), timeout=1):
                if record.error() is not None:
                    if record.error().code() == KafkaError._PARTITION_EOF:
                        continue
                    raise KafkaException(record.error())
                if record.offset() < end:
                    yield record
    kafka.unassign()


def decode(record):
    """A record of the topic telemetry → its rows; None for what a campaign asked for, which is not regular driving."""
    message = TelemetryBatch.FromString(record.value())
    rows = len(message.time_delta_ms)
    if message.campaign != "" or rows == 0:
        return None
    times = message.start_time_ms + np.cumsum(np.asarray(message.time_delta_ms, dtype=np.int64))
    values = np.asarray(message.values, dtype=np.float32).reshape(rows, -1)
    return Batch(
        record.key().decode(), message.signal_set, message.outbox_epoch, message.first_sequence, times, values
    )


def signal_sets(kafka):
    """Signal-set id → [{name, unit}, …], from the topic signal-sets."""
    name = topic("signal-sets")
    return {
        record.key().decode(): json.loads(record.value())["signals"] for record in read(kafka, name, pinned(kafka, name))
    }


@dataclass
class Seen:
    """Rows that were read before. Delivery is at least once; vehicle, epoch and sequence name a row for good."""

    highest: dict = field(default_factory=dict)
    dropped: int = 0

    def fresh(self, batch):
        """The rows of a batch that are new, for a reader that gets a vehicle's rows in their order."""
        key = batch.vehicle, batch.epoch
        first = max(0, self.highest.get(key, -1) + 1 - batch.first_sequence)
        rows = len(batch.times)
        self.dropped += min(first, rows)
        self.highest[key] = max(self.highest.get(key, -1), batch.first_sequence + rows - 1)
        return batch.times[first:], batch.values[first:]


def rows_of(batches):
    """Batches of one signal set → per vehicle its rows by time, each once; and how many copies there were."""
    parts, copies, vehicles = {}, 0, {}
    for batch in batches:
        parts.setdefault(batch.vehicle, []).append(batch)
    for vehicle, of_vehicle in sorted(parts.items()):
        epochs = np.concatenate([np.full(len(b.times), b.epoch, dtype=np.uint64) for b in of_vehicle])
        sequences = np.concatenate([b.first_sequence + np.arange(len(b.times)) for b in of_vehicle])
        times = np.concatenate([b.times for b in of_vehicle])
        values = np.concatenate([b.values for b in of_vehicle])
        _, first = np.unique(np.stack([epochs, sequences.astype(np.uint64)]), axis=1, return_index=True)
        copies += len(times) - len(first)
        first = first[np.argsort(times[first], kind="stable")]
        vehicles[vehicle] = times[first], values[first]
    return vehicles, copies
