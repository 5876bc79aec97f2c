#!/bin/sh
# Removes the agent. Settings and data stay unless --purge is given.
#   sudo /opt/cardan-agent/uninstall.sh [--purge]
set -eu
root=${DESTDIR:-}
purge=no
for option in "$@"; do
  case $option in
    --purge) purge=yes ;;
    *) echo "usage: uninstall.sh [--purge]" >&2; exit 2 ;;
  esac
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "Run it as root: sudo $0" >&2; exit 1; }
[ -n "$root" ] || systemctl disable --now cardan-agent 2>/dev/null || true
rm -f "$root/etc/systemd/system/cardan-agent.service" "$root/usr/local/bin/cardan-agent" \
  "$root/etc/systemd/network/80-can0.network" "$root/etc/systemd/network/80-can0.link" \
  "$root/etc/udev/rules.d/80-can.rules" "$root/etc/sysctl.d/80-cardan-can.conf"
rm -rf "$root/opt/cardan-agent"
if [ "$purge" = yes ]; then
  rm -rf "$root/etc/cardan-agent" "$root/var/lib/cardan-agent" "$root/var/lib/private/cardan-agent"
fi
[ -n "$root" ] || systemctl daemon-reload
