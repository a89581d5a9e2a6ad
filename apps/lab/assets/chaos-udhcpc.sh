#!/bin/sh
# What udhcpc runs in a chaos run: as udhcpc.sh, and writes down what the guest believes, and since when.
echo "$(date +%s%3N) $1 $CHAOS_GUEST $CHAOS_MAC ${ip:--} ${lease:--}" >> "$CHAOS_LOG"
exec "${0%/*}/udhcpc.sh" "$@"
