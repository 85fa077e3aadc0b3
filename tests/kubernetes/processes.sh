#!/usr/bin/env bash
# processes.sh DIR HIGHWATER MINIO: starts a process for each configuration that the chart rendered to DIR, each in a
# network namespace with the address that its pod's name leads to, and MinIO. Then topics are created, a record is
# written and read, a broker is killed, and two brokers are taken away. It must run in namespaces of its own:
#   unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private processes.sh ...
# With its end everything that it started is gone.
set -eu
dir=$1 highwater=$2 minio=$3
cd "$dir"
nodes="controller-0 controller-1 controller-2 broker-0 broker-1 broker-2 broker-3"
domain=ns.svc.cluster.local
bootstrap=hw-highwater-broker-0.hw-highwater-broker.$domain:9092
export AWS_ACCESS_KEY_ID=highwater AWS_SECRET_ACCESS_KEY=highwater-secret

fail() {
    echo "FAILED: $*"
    tail -n 3 ./*.log
    exit 1
}

network() {
    mount -t tmpfs tmpfs /run
    mkdir -p /run/netns
    ip link set lo up
    ip link add pods type bridge
    ip addr add 10.9.0.1/24 dev pods
    ip link set pods up
    printf '127.0.0.1 localhost\n10.9.0.1 minio\n' > hosts
    local number=10 node
    for node in $nodes; do
        local set=hw-highwater-${node%-*}
        echo "10.9.0.$number hw-highwater-$node.$set.$domain" >> hosts
        ip netns add "$node"
        ip link add "v$number" type veth peer name eth0 netns "$node"
        ip link set "v$number" master pods up
        ip -n "$node" link set lo up
        ip -n "$node" addr add "10.9.0.$number/24" dev eth0
        ip -n "$node" link set eth0 up
        number=$((number + 1))
    done
    mount --bind hosts /etc/hosts
}

# The environment is what the chart gives the pod.
start() {
    local node=$1 file=hw-highwater-$1.properties
    [ "${node%-*}" = broker ] || file=controller.properties
    sed "s#^highwater.data.dir=.*#highwater.data.dir=$dir/data-$node#" "$file" > "$node.properties"
    POD_NAME=hw-highwater-$node NODE_ID=100${node##*-} ZONE=zone-${node##*-} NODE_IP=10.9.0.1 POD_IP=10.9.0.1 \
        nsenter --net="/run/netns/$node" "$highwater" start --config "$node.properties" > "$node.log" 2>&1 &
    echo $! > "$node.pid"
}

# The status of /health/ready of a node, by its last byte of the address.
ready() {
    exec 3<> "/dev/tcp/10.9.0.$1/9644" || return 1
    printf 'GET /health/ready HTTP/1.0\r\n\r\n' >&3
    local status
    read -r _ status _ <&3
    exec 3>&-
    [ "$status" = 200 ]
}

all_ready() {
    local number
    for number in 10 11 12 13 14 15 16; do
        for _ in $(seq 300); do
            if (ready $number) 2> /dev/null; then continue 2; fi
            sleep 0.1
        done
        fail "the node 10.9.0.$number is not ready"
    done
}

network
mkdir -p store/highwater
MINIO_ROOT_USER=highwater MINIO_ROOT_PASSWORD=highwater-secret MINIO_BROWSER=off MINIO_CI_CD=1 \
    "$minio" server --quiet --address 10.9.0.1:9000 store > minio.log 2>&1 &
for node in $nodes; do start "$node"; done
all_ready
echo "ok three controllers and four brokers are ready"

printf 'events 8\n' > topics
"$highwater" topics --timeout 30 --bootstrap-server $bootstrap topics || fail "topics are not created"
"$highwater" check --timeout 30 --bootstrap-server $bootstrap || fail "no record goes through"

kill -9 "$(cat broker-3.pid)"
start broker-3
all_ready
"$highwater" check --timeout 30 --bootstrap-server $bootstrap || fail "no record goes through after a kill"
echo "ok a broker that was killed is back"

"$highwater" unregister --timeout 30 --from 2 --bootstrap-server $bootstrap > gone &
unregister=$!
for node in broker-3 broker-2; do kill -TERM "$(cat $node.pid)"; done
wait $unregister || fail "the brokers stay registered"
sort gone | tr '\n' ' ' | grep -q '^Broker 2 is no longer registered. Broker 3 is no longer registered. $' || fail "$(cat gone)"
"$highwater" check --timeout 30 --bootstrap-server $bootstrap || fail "no record goes through with two brokers"
echo "ok two brokers are taken away"
