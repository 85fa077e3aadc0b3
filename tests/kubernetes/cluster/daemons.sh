# What start.sh and node.sh share: programs that must not end, and waits with a bound. Once one of the programs has
# ended, /run/highwater/failed has its name and the end of its log.
: "${run:?}" "${log:?}"

# failed WHAT LOG: tells what went wrong.
failed() {
    { echo "$1; the end of its log is:"; tail -n 20 "$2"; } >> "$run/failed"
}

# serve NAME COMMAND...: starts a program that must not end.
serve() {
    local name=$1
    shift
    {
        "$@" >> "$log/$name.log" 2>&1 || true
        failed "$name has ended" "$log/$name.log"
    } &
}

# await WHAT SECONDS COMMAND...: waits until the command succeeds, and ends this process if it does not in that time.
await() {
    local what=$1 seconds=$2 end=$((SECONDS + $2))
    shift 2
    until "$@" > /dev/null 2>&1; do
        if [ -e "$run/failed" ]; then
            cat "$run/failed"
            exit 1
        fi
        if [ "$SECONDS" -ge "$end" ]; then
            echo "not within $seconds s: $what"
            exit 1
        fi
        sleep 0.2
    done
}
