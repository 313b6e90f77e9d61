#!/bin/sh
# cross.sh - a guest at work moves from engine to engine by snapshots, and checks itself
#
# usage: cross.sh RING3 KERNEL INITRD ENGINE[:IRQCHIP]...
#
# The guest boots under the first engine; each following one goes on where the one before was stopped
# in the middle of the work. Under the last it works to its end. INITRD has tests/snap/verify as
# /verify. One TAP test a move. Plain shell, because it also runs where there is only busybox.
ring3=$1 kernel=$2 initrd=$3
shift 3
patience=${CROSS_PATIENCE:-300} # s for a few rounds, boot included
rounds=3                        # between two moves
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# The numbers of the rounds in a console's output.
seen() { tr -d '\r' <"$1" | sed -n 's/^verify: round //p'; }

# wait_for PID OUT: until some rounds were done; fails at the end of ring3 or of patience.
wait_for() {
    left=$((patience * 5))
    while [ "$(seen "$2" | wc -l)" -lt $rounds ]; do
        left=$((left - 1))
        kill -0 "$1" 2>/dev/null && [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}

# Rounds neither lost nor done twice: each output goes on where the last one ended.
in_order() {
    for n in $(seen "$1"); do
        [ "$n" -eq $((last + 1)) ] || return 1
        last=$n
    done
}

give_up() {
    echo "not ok $move - $from -> $engine: $1"
    sed 's/^/# /' "$tmp/out" | tail -n 40
    exit 1
}

echo "1..$#"
move=0 last=0 from=boot
set -- "$@" end
while [ "$1" != end ]; do
    engine=$1 next=$2
    shift
    move=$((move + 1))
    : >"$tmp/out"
    if [ "$from" = boot ]; then
        set -- "$@" -k "$kernel" -i "$initrd" -m 96 \
            -a "console=ttyS0 quiet panic=-1 rdinit=/verify/init"
    else
        set -- "$@" --restore "$tmp/snap"
    fi
    [ "$next" = end ] || set -- "$@" --save "$tmp/next" --at USR1
    # The words behind `end` are ring3's.
    engines=
    while [ "$1" != end ]; do
        engines="$engines $1"
        shift
    done
    shift
    case $engine in *:*) set -- --irqchip "${engine#*:}" "$@" ;; esac
    "$ring3" run -q -e "${engine%%:*}" "$@" </dev/null >"$tmp/out" 2>&1 &
    pid=$!
    wait_for $pid "$tmp/out" || { kill $pid 2>/dev/null; give_up "no progress"; }
    if [ "$next" != end ]; then
        sleep 0.1 # into the middle of a round
        kill -USR1 $pid
    fi
    wait $pid || give_up "status $?"
    grep -q FAIL "$tmp/out" && give_up "the guest found a mistake"
    in_order "$tmp/out" || give_up "rounds lost or done twice"
    [ "$next" != end ] || grep -q "verify: ok" "$tmp/out" || give_up "no end"
    [ "$next" = end ] || mv "$tmp/next" "$tmp/snap"
    echo "ok $move - $from -> $engine, $last rounds"
    from=$engine
    # shellcheck disable=SC2086 # a list of words
    set -- $engines end
done
