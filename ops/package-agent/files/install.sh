#!/bin/sh
# Installs the agent of this folder to /opt/cardan-agent. Again to update: settings and data stay.
#   sudo ./install.sh [--can-hat]     --can-hat: also brings can0 up at 500 kbit/s (systemd-networkd), with room for bursts
# DESTDIR puts everything below another root, and starts nothing.
set -eu
here=$(dirname "$(readlink -f "$0")")
root=${DESTDIR:-}
hat=no
for option in "$@"; do
  case $option in
    --can-hat) hat=yes ;;
    *) echo "usage: install.sh [--can-hat]" >&2; exit 2 ;;
  esac
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "Run it as root: sudo $0" >&2; exit 1; }

# The native module fits one machine and one ABI of Node.js.
node=${CARDAN_NODE:-$here/lib/node}
[ -x "$node" ] || node=node
found=$("$node" -p 'process.arch + " " + process.versions.modules') ||
  { echo "There is no Node.js. Install it, or take a package that has it in." >&2; exit 1; }
wanted="$(cat "$here/lib/arch") $(cat "$here/lib/node-abi")"
[ "$found" = "$wanted" ] ||
  { echo "This package is for architecture and ABI $wanted; the Node.js here has $found." >&2; exit 1; }

mkdir -p "$root/opt" "$root/etc/cardan-agent" "$root/etc/systemd/system" "$root/usr/local/bin"
rm -rf "$root/opt/cardan-agent.new"
cp -R "$here" "$root/opt/cardan-agent.new"
rm -rf "$root/opt/cardan-agent"
mv "$root/opt/cardan-agent.new" "$root/opt/cardan-agent"
ln -sf /opt/cardan-agent/bin/cardan-agent "$root/usr/local/bin/cardan-agent"
[ -e "$root/etc/cardan-agent/agent.env" ] || cp "$here/agent.env" "$root/etc/cardan-agent/agent.env"
cp "$here/systemd/cardan-agent.service" "$root/etc/systemd/system/"
if [ "$hat" = yes ]; then
  mkdir -p "$root/etc/systemd/network" "$root/etc/udev/rules.d"
  cp "$here/network/80-can0.network" "$here/network/80-can0.link" "$root/etc/systemd/network/"
  cp "$here/network/80-can.rules" "$root/etc/udev/rules.d/"
  mkdir -p "$root/etc/sysctl.d"
  cp "$here/network/80-cardan-can.conf" "$root/etc/sysctl.d/"
fi
[ -z "$root" ] || exit 0
systemctl daemon-reload
if [ "$hat" = yes ]; then sysctl -q -p /etc/sysctl.d/80-cardan-can.conf; systemctl enable systemd-networkd; systemctl restart systemd-networkd; fi
echo "Installed. Edit /etc/cardan-agent/agent.env, then: systemctl enable --now cardan-agent"
