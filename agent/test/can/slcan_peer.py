"""An adapter: python-can's slcan bus on the other side of a pty. Requests come as JSON lines, as in udp_peer.py."""

import json
import os
import pty
import sys
import tty

import can

master, slave = pty.openpty()
tty.setraw(slave)
print(os.ttyname(slave), flush=True)

# python-can opens serial ports by name; the master has none, so that it is joined to a second pty.
other, named = pty.openpty()
tty.setraw(named)
import threading


def pump(source, sink):
    while True:
        try:
            data = os.read(source, 4096)
        except OSError:
            return
        while data:
            data = data[os.write(sink, data) :]


for pair in ((master, other), (other, master)):
    threading.Thread(target=pump, args=pair, daemon=True).start()

bus = None
for line in sys.stdin:
    request = json.loads(line)
    if bus is None:
        bus = can.Bus(interface="slcan", channel=os.ttyname(named), sleep_after_open=0)
    if "raw" in request:
        os.write(master, request["raw"].encode())
    elif "send" in request:
        for frame in request["send"]:
            bus.send(
                can.Message(
                    arbitration_id=frame["id"],
                    is_extended_id=frame["extended"],
                    is_fd=frame["fd"],
                    data=bytes.fromhex(frame["data"]),
                    check=True,
                )
            )
        print("sent", flush=True)
    else:
        got = []
        while len(got) < request["receive"]:
            message = bus.recv(10)
            if message is None:
                break
            got.append(
                {
                    "id": message.arbitration_id,
                    "extended": message.is_extended_id,
                    "fd": message.is_fd,
                    "data": message.data.hex(),
                }
            )
        print(json.dumps(got), flush=True)
