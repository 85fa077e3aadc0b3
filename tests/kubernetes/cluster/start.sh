#!/usr/bin/env bash
# start.sh DIR NODES: a Kubernetes on this machine, the first process of namespaces of its own:
#   unshare --net --mount --pid --ipc --uts --fork --kill-child --mount-proc --propagation private start.sh ...
# DIR is empty except for `images/` with archives that every node imports. The PATH has the programs of Kubernetes, etcd
# and the DNS server. The control plane runs in these namespaces, and `node.sh` starts each node in namespaces below
# them. `DIR/ready` appears once all nodes are ready. With the end of this process all of them are gone. It ends once a
# program of the control plane does, and `DIR/failed` says which.
#
# The network is a bridge: the control plane, and clients that are no pods, have 10.77.0.1, and node N has 10.77.0.1N.
# Its pods have 10.78.N.0/24; Services have 10.79.0.0/16. Nothing leads out of it.
set -eu
export dir=$1 nodes=$2
here=$(cd "$(dirname "$0")" && pwd)
export here run=/run/highwater
log=$run/log pki=$run/pki
. "$here/daemons.sh"

# A short path for everything, because the paths of sockets and overlays have a limit. /run is empty otherwise, so that
# no process finds the machine's own containerd or locks there.
mounts() {
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/netns /run/lock /run/cgroup $run
    mount --bind "$dir" $run
    mkdir -p $run/{log,pki,home,volumes}
    # /sys shows the devices of the network namespace in which it is mounted; the control groups move to the new one
    mount --move /sys/fs/cgroup /run/cgroup
    mount -t sysfs sysfs /sys
    mount --move /run/cgroup /sys/fs/cgroup
    echo "nameserver 10.77.0.1" > $run/resolv.conf
    mount --bind $run/resolv.conf /etc/resolv.conf
    mount --make-rshared /
}

network() {
    ip link set lo up
    ip link add nodes type bridge
    ip addr add 10.77.0.1/24 dev nodes
    ip link set nodes up
    echo 1 > /proc/sys/net/ipv4/ip_forward
    local n
    for n in $(seq "$nodes"); do
        ip netns add "node$n"
        ip link add "node$n" type veth peer name eth0 netns "node$n"
        ip link set "node$n" master nodes up
        ip -n "node$n" link set lo up
        ip -n "node$n" addr add "10.77.0.1$n/24" dev eth0
        ip -n "node$n" link set eth0 up
        ip -n "node$n" route add default via 10.77.0.1
        ip route add "10.78.$n.0/24" via "10.77.0.1$n"
        local other
        for other in $(seq "$nodes"); do
            [ "$other" = "$n" ] || ip -n "node$n" route add "10.78.$other.0/24" via "10.77.0.1$other"
        done
    done
}

# The log of every pod that is created or applied tells the security profile under which it is admitted.
audit() {
    cat > $run/audit.yaml <<EOT
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: RequestResponse, verbs: [create, patch], resources: [{group: "", resources: [pods]}]}
  - {level: None}
EOT
}

control_plane() {
    local etcd_server=http://127.0.0.1:2379
    serve etcd server --data-dir $run/etcd --unsafe-no-fsync \
        --listen-client-urls $etcd_server --advertise-client-urls $etcd_server --listen-peer-urls http://127.0.0.1:2380
    serve apiserver kube-apiserver --etcd-servers=$etcd_server --bind-address=10.77.0.1 --advertise-address=10.77.0.1 \
        --audit-policy-file=$run/audit.yaml --audit-log-path=$log/audit.log \
        --service-cluster-ip-range=10.79.0.0/16 --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction --allow-privileged --profiling=false \
        --client-ca-file=$pki/ca.crt --tls-cert-file=$pki/apiserver.crt --tls-private-key-file=$pki/apiserver.key \
        --service-account-key-file=$pki/accounts.pub --service-account-signing-key-file=$pki/accounts.key \
        --service-account-issuer=https://kubernetes.default.svc \
        --kubelet-client-certificate=$pki/admin.crt --kubelet-client-key=$pki/admin.key \
        --kubelet-preferred-address-types=InternalIP
    await "the API server is ready" 120 kubectl get --raw=/readyz --request-timeout=5s
    # a node that is silent for 20 seconds is not ready
    serve controllers kube-controller-manager --kubeconfig=$pki/controllers.conf --leader-elect=false \
        --bind-address=127.0.0.1 --use-service-account-credentials --root-ca-file=$pki/ca.crt \
        --service-account-private-key-file=$pki/accounts.key --node-monitor-grace-period=20s
    serve scheduler kube-scheduler --kubeconfig=$pki/scheduler.conf --leader-elect=false --bind-address=127.0.0.1
    cat > $run/Corefile <<EOT
.:53 {
    bind 10.77.0.1
    errors
    kubernetes cluster.local {
        kubeconfig $pki/admin.conf
        pods insecure
        ttl 5
    }
    cache 2
}
EOT
    serve dns dns -conf $run/Corefile
}

# Volumes are directories of a node, as local disks are: a pod that has one can't go to another node. A volume is used
# once, and one node may need five: of its controller, of three releases that don't start, and of a controller that lost
# the first.
volumes() {
    cat <<EOT
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
EOT
    local n number
    for n in $(seq "$nodes"); do
        for number in 1 2 3 4 5 6 7 8; do
            mkdir -p "$run/volumes/node$n-$number"
            cat <<EOT
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: node$n-$number}
spec:
  storageClassName: local
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $run/volumes/node$n-$number}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node$n]}]
EOT
        done
    done
}

nodes_are_ready() {
    [ "$(kubectl get nodes --no-headers --request-timeout=5s | grep -cw Ready)" = "$nodes" ]
}

hostname control-plane
mounts
network
audit
"$here/certificates.sh" $pki "$nodes"
export KUBECONFIG=$pki/admin.conf HOME=$run/home
control_plane
for n in $(seq "$nodes"); do "$here/node.sh" "$n"; done
await "$nodes nodes are ready" 120 nodes_are_ready
# no pod is admitted before its namespace has this account
await "the namespace default has its service account" 30 kubectl get serviceaccount default
volumes | kubectl apply -f -
touch $run/ready
# this process adopts the nodes, and ends them with itself
wait -n
exit 1
