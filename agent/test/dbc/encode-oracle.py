"""What cantools encodes of lines as `cardan-agent encode` reads them: the oracle of its test.

Reads JSON from standard input: a list of {"text": DBC, "lines": [{"id", "is_extended", "values"}]}, where integers
beyond 2^53 have all their digits. Writes a list of lists: hex, or null where cantools refuses the values.
"""

import json
import logging
import sys

import cantools

logging.disable(logging.CRITICAL)
SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def encode(database, line):
    key = line["id"] | (0x80000000 if line["is_extended"] else 0)
    values = {k: SPECIAL.get(v, v) if isinstance(v, str) else v for k, v in line["values"].items()}
    try:
        return database._frame_id_to_message[key].encode(values, strict=False).hex()
    except Exception:
        return None


def results(case):
    database = cantools.database.load_string(case["text"], "dbc", strict=False)
    return [encode(database, line) for line in case["lines"]]


if __name__ == "__main__":
    json.dump([results(case) for case in json.load(sys.stdin)], sys.stdout)
