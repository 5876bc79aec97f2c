"""What cantools makes of frames: the oracle of the tests of the DBC decoder and encoder.

Reads JSON from standard input: a list of {"text": DBC, "frames": [{"id", "extended", "data": hex}]}.
Writes one of {"frames": [{"message", "signals": {name: double as hex}, "exact": {name: digits}, "encoded": hex}]};
"signals" is null where cantools refuses the frame, "encoded" where it cannot encode what it has decoded.
"""

import json
import logging
import struct
import sys

import cantools

logging.disable(logging.CRITICAL)  # it warns of duplicates, which are on purpose


def decode(database, frame):
    key = frame["id"] | (0x80000000 if frame["extended"] else 0)
    message = database._frame_id_to_message.get(key)
    if message is None:
        return {"message": None, "signals": {}, "exact": {}, "encoded": None}
    data = bytes.fromhex(frame["data"])
    try:
        signals = message.decode(data, decode_choices=False, scaling=True, allow_truncated=True)
    except cantools.database.errors.DecodeError:
        return {"message": message.name, "signals": None, "exact": {}, "encoded": None}
    try:
        encoded = message.encode({k: float(v) for k, v in signals.items()}, strict=False).hex()
    except Exception:
        encoded = None
    return {
        "message": message.name,
        "signals": {k: struct.pack(">d", float(v)).hex() for k, v in signals.items()},
        "exact": {k: str(v) for k, v in signals.items() if isinstance(v, int) and abs(v) > 2**53},
        "encoded": encoded,
    }


def results(case):
    database = cantools.database.load_string(case["text"], "dbc", strict=False)
    return {"frames": [decode(database, frame) for frame in case["frames"]]}


if __name__ == "__main__":
    json.dump([results(case) for case in json.load(sys.stdin)], sys.stdout)
