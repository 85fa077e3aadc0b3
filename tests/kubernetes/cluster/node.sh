#!/usr/bin/env bash
# node.sh N: starts node N, in the namespaces of `start.sh`: containerd, the kubelet and kube-proxy, in the node's
# network namespace, and in namespaces below it for processes and mounts. They are gone with the process whose number is
# in `node<N>.pid`, and all pods of the node are gone with them, as if the machine had lost its power. A node that is
# started again has its images, its volumes and its name. A node ends once one of its programs does, and `DIR/failed`
# says which.
set -eu
n=$1
: "${dir:?}" "${here:?}" "${run:?}"
node=$run/node$n log=$run/log pki=$run/pki address=10.77.0.1$n
. "$here/daemons.sh"

if [ "${2:-}" != inside ]; then
    setsid nsenter --net="/run/netns/node$n" \
        unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc --propagation slave \
        "$0" "$n" inside >> $log/node$n.log 2>&1 < /dev/null &
    echo $! > "$run/node$n.pid"
    exit
fi

# The kubelet sets these values of the kernel, which are the whole machine's. It finds files that have them already.
show_kernel_values() {
    local value file
    mkdir -p "$node/sys"
    for value in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        file=$node/sys/$(echo "${value%=*}" | tr / _)
        echo "${value#*=}" > "$file"
        mount --bind "$file" "/proc/sys/${value%=*}"
    done
}

# The directories that the kubelet and the network's plug-ins write to, whatever they are told, are the node's own.
mounts() {
    mount --make-rshared /
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p $run /run/lock
    mount --bind "$dir" $run
    rm -rf "$node/containerd/state" "$node/addresses"
    mkdir -p "$node"/{containerd,kubelet,pods,network}
    local over
    for over in /var/lib /var/log; do
        mkdir -p /run/over$over/{upper,work}
        mount -t overlay -o "lowerdir=$over,upperdir=/run/over$over/upper,workdir=/run/over$over/work" overlay $over
    done
    mkdir -p /var/lib/kubelet /var/log/containers
    show_kernel_values
}

start_containerd() {
    cat > "$node/network/10-pods.conflist" <<EOT
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipMasq": false, "ipam":
    {"type": "host-local", "dataDir": "$node/addresses", "ranges": [[{"subnet": "10.78.$n.0/24"}]],
     "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOT
    cat > "$node/containerd.toml" <<EOT
version = 2
root = "$node/containerd/root"
state = "$node/containerd/state"
[grpc]
  address = "$node/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$node/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/machine:1"
  # a container of containers may not lower the kernel's wish to kill a process
  restrict_oom_score_adj = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node/network"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
EOT
    serve "containerd$n" containerd -c "$node/containerd.toml"
    await "containerd answers" 60 ctr -a "$node/containerd.sock" version
    local image
    for image in "$run"/images/*.tar; do ctr -a "$node/containerd.sock" -n k8s.io images import "$image"; done
}

start_kubelet() {
    cat > "$node/kubelet.yaml" <<EOT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /highwater-kubernetes/node$n
oomScoreAdj: 0
failSwapOn: false
address: $address
healthzPort: 10248
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/node$n.crt
tlsPrivateKeyFile: $pki/node$n.key
clusterDNS: [10.77.0.1]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
containerRuntimeEndpoint: unix://$node/containerd.sock
podLogsDir: $node/pods
volumePluginDir: $node/plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 4s
# so that a container which is killed twenty times is started twenty times
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
EOT
    serve "kubelet$n" kubelet --config="$node/kubelet.yaml" --kubeconfig="$pki/node$n.conf" --root-dir="$node/kubelet" \
        --cert-dir="$node/kubelet/pki" --hostname-override="node$n" --node-ip="$address" \
        --node-labels="topology.kubernetes.io/region=region-1,topology.kubernetes.io/zone=zone-$n"
}

start_proxy() {
    cat > "$node/proxy.yaml" <<EOT
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $pki/proxy.conf}
mode: nftables
clusterCIDR: 10.78.0.0/16
hostnameOverride: node$n
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nodePortAddresses: [10.77.0.0/24]
EOT
    serve "proxy$n" kube-proxy --config="$node/proxy.yaml"
}

trap 'failed "node $n has ended" "$log/node$n.log"' EXIT
hostname "node$n"
mounts
echo 1 > /proc/sys/net/ipv4/ip_forward
start_containerd
start_kubelet
start_proxy
wait -n
exit 1
