"""Writes golden.json: what can-isotp and can-j1939 put on the bus when they talk to themselves.

    pip install can-isotp can-j1939 python-can
    python3 agent/test/diagnostics/make-golden.py
"""
import json
import logging
import os
import time

import can
import isotp
import j1939
from j1939.diagnostic_messages import DTC

logging.disable(logging.CRITICAL)


def payload_of(length):
    return bytes((7 * i + length) & 0xFF for i in range(length))


def iso_tp(length, extended=False, padding=0xCC, frame_bytes=8, block_size=0, stmin=0):
    """Two can-isotp layers in memory; every frame in order, with the side that sent it."""
    frames, queues = [], ([], [])
    mode = isotp.AddressingMode.Normal_29bits if extended else isotp.AddressingMode.Normal_11bits
    ids = (0x18DA10F1, 0x18DAF110) if extended else (0x7E0, 0x7E8)
    params = dict(stmin=stmin, blocksize=block_size, tx_padding=padding, tx_data_length=frame_bytes,
                  can_fd=frame_bytes > 8, max_frame_size=1 << 20)
    if frame_bytes > 8 and padding is not None:
        params['tx_data_min_length'] = 8

    def layer(side):
        def take(timeout):
            return queues[side].pop(0) if queues[side] else None

        def put(message):
            frames.append([side, bytes(message.data).hex()])
            queues[1 - side].append(message)

        address = isotp.Address(mode, txid=ids[side], rxid=ids[1 - side])
        return isotp.TransportLayerLogic(rxfn=take, txfn=put, address=address, params=params)

    sender, receiver = layer(0), layer(1)
    sender.send(payload_of(length))
    message = None
    for _ in range(1_000_000):
        sender.process()
        receiver.process()
        message = receiver.recv()
        if message is not None:
            break
        if stmin:
            time.sleep(0.0005)
    assert message == payload_of(length)
    return dict(length=length, extended=extended, padding=padding, frameBytes=frame_bytes,
                blockSize=block_size, separation=stmin, payload=payload_of(length).hex(), frames=frames)


def on_virtual_bus(channel, run):
    """Runs with two nodes of can-j1939 (addresses 0x80 and 0x90) on a virtual bus; every frame in order."""
    recorder = can.Bus(channel, interface='virtual')
    nodes = [j1939.ElectronicControlUnit(max_cmdt_packets=3) for _ in range(2)]
    apps = []
    for node, address in zip(nodes, (0x80, 0x90)):
        node.connect(channel, interface='virtual')
        name = j1939.Name(arbitrary_address_capable=0, industry_group=j1939.Name.IndustryGroup.Industrial,
                          vehicle_system_instance=1, vehicle_system=1, function=1, function_instance=1,
                          ecu_instance=1, manufacturer_code=666, identity_number=address)
        app = j1939.ControllerApplication(name, address)
        node.add_ca(controller_application=app)
        app.start()
        apps.append(app)
    time.sleep(1)
    while recorder.recv(0.1):
        pass
    run(apps)
    frames = []
    while True:
        message = recorder.recv(2)
        if message is None:
            break
        if (message.arbitration_id >> 16) & 0xFF in (0xEC, 0xEB, 0xFE, 0xEF) or not frames:
            frames.append([message.arbitration_id, bytes(message.data).hex()])
    for app in apps:
        app.stop()
    for node in nodes:
        node.disconnect()
    recorder.shutdown()
    return frames


def transport(length, pf, ps):
    data = list(payload_of(length))
    frames = on_virtual_bus(f'tp{length}{pf}{ps}', lambda apps: apps[0].send_pgn(0, pf, ps, 7, data))
    return dict(length=length, pdu_format=pf, pdu_specific=ps, payload=payload_of(length).hex(), frames=frames)


def dtcs():
    """What four bytes of a DM1 hold, low byte first."""
    codes = ((110, 0, 1), (1208, 3, 126), (520192, 31, 5), (0x7FFFF, 2, 0), (70000, 14, 77))
    return [dict(spn=spn, fmi=fmi, occurrences=oc,
                 bytes=DTC(spn=spn, fmi=fmi, oc=oc).dtc.to_bytes(4, 'little').hex())
            for spn, fmi, oc in codes]


def ids():
    rows = []
    for can_id in (0x18FEF100, 0x0CF00400, 0x18EAFFF9, 0x1CECFF00, 0x18EF8090, 0x19F11203, 0x0DEF1234, 0x1CEB9080):
        mid = j1939.MessageId(can_id=can_id)
        pgn = j1939.ParameterGroupNumber()
        pgn.from_message_id(mid)
        rows.append(dict(id=can_id, priority=mid.priority, source=mid.source_address, pdu2=pgn.is_pdu2_format,
                         pdu_specific=pgn.pdu_specific, raw=pgn.value))
    return rows


golden = dict(
    isoTp=[
        *(iso_tp(n) for n in (1, 6, 7, 8, 13, 20, 21, 62, 127, 200, 4095)),
        *(iso_tp(n, padding=None) for n in (1, 7, 8, 9, 20)),
        *(iso_tp(n, extended=True, padding=0) for n in (3, 20, 120)),
        *(iso_tp(n, block_size=4, stmin=1) for n in (20, 34, 35, 100)),
        *(iso_tp(n, frame_bytes=64) for n in (1, 7, 8, 10, 11, 62, 63, 125, 126, 500)),
        *(iso_tp(n, frame_bytes=32, block_size=2) for n in (30, 31, 200)),
        *(iso_tp(n, frame_bytes=64, padding=None) for n in (5, 8, 63, 200)),
        iso_tp(5000),
    ],
    j1939=dict(
        ids=ids(),
        dtcs=dtcs(),
        transport=[
            transport(9, 0xFE, 0xCA),
            transport(14, 0xFE, 0xCA),
            transport(100, 0xFE, 0xE3),
            transport(9, 0xEF, 0x90),
            transport(50, 0xEF, 0x90),
            transport(1785, 0xEF, 0x90),
        ],
    ),
)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'golden.json'), 'w') as out:
    json.dump(golden, out)
    out.write('\n')
os._exit(0)
