"""python-can's udp_multicast bus as the peer, on this computer only. Frames come and go as JSON lines.

IPv4 goes over the loopback interface; for IPv6 that has no multicast, and the fourth argument names another interface,
which no datagram leaves: it may pass no router and no cable.
"""

import json
import socket
import struct
import sys

import can

group, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bus = can.Bus(interface="udp_multicast", channel=group, port=port, fd=True)
raw = bus._multicast._socket
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
if "." in group:
    packed = socket.inet_aton(group)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, packed + socket.inet_aton("0.0.0.0"))
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + socket.inet_aton("127.0.0.1"))
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
else:
    packed = socket.inet_pton(socket.AF_INET6, group)
    index = struct.pack("@I", socket.if_nametoindex(sys.argv[4]))
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, packed + struct.pack("@I", 0))
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + index)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
print("ready", flush=True)


def receive(into):
    while len(into) < count:
        message = bus.recv(10)
        if message is None:
            break
        # python-can gets what it sends itself, too; the other side's ids are even.
        if message.arbitration_id % 2:
            continue
        into.append(
            {
                "id": message.arbitration_id,
                "extended": message.is_extended_id,
                "fd": message.is_fd,
                "data": message.data.hex(),
            }
        )


def send(frames):
    for frame in frames:
        bus.send(
            can.Message(
                arbitration_id=frame["id"],
                is_extended_id=frame["extended"],
                is_fd=frame["fd"],
                data=bytes.fromhex(frame["data"]),
                check=True,
            )
        )


for line in sys.stdin:
    request = json.loads(line)
    if "send" in request:
        send(request["send"])
        print("sent", flush=True)
    else:
        got = []
        print("receiving", flush=True)
        receive(got)
        print(json.dumps(got), flush=True)
bus.shutdown()
