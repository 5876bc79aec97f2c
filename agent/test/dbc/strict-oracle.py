"""What cantools refuses of DBC texts when it is strict: the oracle of the test of `dbc lint`.

Reads a JSON list of texts from standard input; writes a list of error messages, or null where it takes the text.
"""

import json
import logging
import sys

import cantools

logging.disable(logging.CRITICAL)


def error(text):
    try:
        cantools.database.load_string(text, "dbc", strict=True)
    except Exception as e:
        return str(e)
    return None


json.dump([error(text) for text in json.load(sys.stdin)], sys.stdout)
