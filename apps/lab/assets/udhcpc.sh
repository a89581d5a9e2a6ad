#!/bin/sh
# What udhcpc runs on each change of its lease: configures the guest's interface, touches nothing else.
case "$1" in
  deconfig)
    ip address flush dev "$interface"
    ip link set "$interface" up
    ;;
  bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
    ;;
esac
