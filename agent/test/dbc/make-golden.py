"""Makes golden.json: what cantools decodes and encodes of frames of the fixtures. Run it after changing one.

    python3 agent/test/dbc/make-golden.py && npx prettier --write agent/test/dbc/golden.json
"""

import json
import pathlib
import random

import cantools

from oracle import results

here = pathlib.Path(__file__).parent
rng = random.Random(1)


def frames(text):
    """Short, long and full frames of all messages; of multiplexed ones with selectors that mostly exist."""
    for message in cantools.database.load_string(text, "dbc").messages:
        muxed = message.is_multiplexed()
        for n in range(40 if muxed else 14):
            length = message.length if n % 14 < 10 else max(0, message.length + rng.randrange(-8, 3))
            edge = [0x00, 0xFF, 0x7F, 0x80, 0x01]
            data = [rng.choice(edge) if n % 3 == 0 else rng.randrange(256) for _ in range(length)]
            if muxed:
                data = [rng.randrange(16) | rng.choice([0, 0, 0x10, 0x30]) for _ in data]
            yield {"id": message.frame_id, "extended": message.is_extended_frame, "data": bytes(data).hex()}


cases = []
for name in ["vehicle", "multiplexed", "wide"]:
    text = (here / "fixtures" / f"{name}.dbc").read_text()
    case = {"text": text, "frames": list(frames(text))}
    answers = results(case)["frames"]
    cases.append({"dbc": f"{name}.dbc", "frames": [a | b for a, b in zip(case["frames"], answers)]})
(here / "golden.json").write_text(json.dumps({"cantools": cantools.__version__, "cases": cases}))
